"""Convolutions with fewer multiplications, against torch's in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from omnialpha.models import convolutions


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 9), (7, 4), (12, 5)])
def test_pairs_equal_the_direct_convolution_and_rounds_no_worse(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    x = torch.randn(2, 96, height, width, generator=generator)
    weight, bias = torch.randn(97, 96, 3, 3, generator=generator) / 29, torch.randn(97, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), bias.double())
    direct = F.conv2d(x, weight, bias)
    out = convolutions.convolve_pairs(channels_last(x), convolutions.pair_kernels(weight), bias)
    assert out.shape == expected.shape
    error = (out - expected).square().mean().sqrt()
    assert error < 2e-6  # outputs are of size one
    assert error < 3 * (direct - expected).square().mean().sqrt()


def test_pairs_multiply_a_third_less() -> None:
    x, weight = torch.zeros(1, 96, 10, 10), torch.zeros(96, 96, 3, 3)
    with FlopCounterMode(display=False) as direct:
        F.conv2d(x, weight)
    with FlopCounterMode(display=False) as ours:
        convolutions.convolve_pairs(x, convolutions.pair_kernels(weight), None)
    assert ours.get_total_flops() * 3 == direct.get_total_flops() * 2


def test_pairs_pay_for_wide_float32_kernels_only() -> None:
    assert convolutions.pairs_pay(torch.zeros(96, 192, 3, 3))
    for other in (torch.zeros(96, 4, 3, 3), torch.zeros(96, 96, 1, 1), torch.zeros(96, 96, 3, 3).half()):
        assert not convolutions.pairs_pay(other)


def test_doubled_equals_upsampling_and_the_direct_convolution_with_four_ninths_of_the_work() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 5, 4, generator=generator)
    weight, bias = torch.randn(3, 6, 3, 3, generator=generator) / 7, torch.randn(3, generator=generator)
    with FlopCounterMode(display=False) as direct:
        expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest-exact"), weight, bias, padding=1)
    with FlopCounterMode(display=False) as ours:
        window = channels_last(F.pad(x, (1, 1, 1, 1)))
        out = convolutions.convolve_doubled(window, convolutions.doubled_kernels(weight), bias)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=0)
    assert ours.get_total_flops() * 9 == direct.get_total_flops() * 4
