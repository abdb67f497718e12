"""The convolution with fewer multiplications, against torch's in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from omnialpha.models import winograd


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 9), (7, 4), (12, 5)])
def test_equals_the_direct_convolution_and_rounds_no_worse(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    x = torch.randn(2, 96, height, width, generator=generator)
    weight, bias = torch.randn(97, 96, 3, 3, generator=generator) / 29, torch.randn(97, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), bias.double())
    direct = F.conv2d(x, weight, bias)
    out = winograd.convolve(x.contiguous(memory_format=torch.channels_last), winograd.transform(weight), bias)
    assert out.shape == expected.shape
    error = (out - expected).square().mean().sqrt()
    assert error < 2e-6  # outputs are of size one
    assert error < 3 * (direct - expected).square().mean().sqrt()


def test_multiplies_a_third_less() -> None:
    x, weight = torch.zeros(1, 96, 10, 10), torch.zeros(96, 96, 3, 3)
    with FlopCounterMode(display=False) as direct:
        F.conv2d(x, weight)
    with FlopCounterMode(display=False) as ours:
        winograd.convolve(x, winograd.transform(weight), None)
    assert ours.get_total_flops() * 3 == direct.get_total_flops() * 2


def test_pays_for_wide_float32_kernels_only() -> None:
    assert winograd.pays(torch.zeros(96, 192, 3, 3))
    for other in (torch.zeros(96, 4, 3, 3), torch.zeros(96, 96, 1, 1), torch.zeros(96, 96, 3, 3).half()):
        assert not winograd.pays(other)
