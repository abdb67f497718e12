"""Counting on shapes: equal to counting on real tensors, and to what torch's own counters say."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from omnialpha.memory.shapes import Meter, Shapes


def test_live_bytes_rise_and_fall() -> None:
    meter = Meter()
    with meter:
        a = torch.zeros(1000)  # 4000 bytes
        b = a.view(10, 100)  # shares them
        c = a + 1  # 8000
        del a, b
        d = torch.zeros(500)  # 6000
    assert meter.peaks[""] == 8000
    assert len(c) + len(d) == 1500


def test_peaks_and_operations_are_booked_by_stage() -> None:
    meter = Meter()
    x = torch.zeros(8, 16)
    with meter:
        meter.enter("one")
        y = x @ torch.zeros(16, 4)  # 256 bytes and 128
        meter.enter("two")
    assert meter.peaks == {"one": 384, "two": 128}
    assert meter.flops["one"] == 2 * 8 * 16 * 4
    assert y.shape == (8, 4)


def test_weights_are_left_out_also_when_they_are_put_together() -> None:
    layers = [nn.Linear(8, 8, bias=False) for _ in range(2)]
    meter = Meter(layer.weight for layer in layers)
    with torch.no_grad(), meter:
        joint = torch.cat([layer.weight for layer in layers])
        for layer, part in zip(layers, joint.chunk(2), strict=True):
            layer.weight.data = part  # frees what it was
        meter.enter("after")
    assert meter.peaks[""] == 2 * 256
    assert meter.peaks["after"] == 0


def attend(x_BTD: Tensor) -> Tensor:
    """Attention, a convolution, whole numbers that steer, and a result that comes back."""
    count = torch.arange(x_BTD.shape[1], device=x_BTD.device).sum().item()  # a real number, on any device
    positions = torch.tensor([count], device=x_BTD.device).float().to(x_BTD.dtype)
    q, k, v = (x_BTD * positions).unflatten(-1, (2, -1)).transpose(1, 2).repeat(3, 1, 1, 1, 1)
    seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return F.conv1d(seen.transpose(1, 2), x_BTD.new_zeros(4, seen.shape[-1], 3), padding=1)


def test_shapes_alone_give_the_same_counts_as_real_tensors() -> None:
    counts = []
    for device in ("cpu", "meta"):
        meter = Meter()
        with torch.no_grad(), Shapes(meter), meter:
            result = attend(torch.zeros(1, 64, 32, device=device))
            shown = result.cpu()
        assert shown.shape == (1, 4, 64)
        assert (shown == 0).all()
        counts.append((meter.peaks[""], meter.flops[""]))
    (real_peak, _), (peak, flops) = counts
    assert peak == pytest.approx(real_peak, rel=0.05)  # the kernel also returns a sum for each row
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        attend(torch.zeros(1, 64, 32))
    assert flops == counter.get_total_flops()


def test_nothing_waits_for_the_garbage_collector() -> None:
    meter = Meter()
    gc.disable()
    try:
        with Shapes(meter), meter:
            for _ in range(10):
                torch.cat([torch.zeros(1000, device="meta"), torch.zeros(1000)])
    finally:
        gc.enable()
    assert meter.peaks[""] <= 3 * 8000
