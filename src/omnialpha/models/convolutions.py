"""3×3 convolutions with fewer multiplications than their kernels have.

**In pairs.** Two rows of the result need four rows d0 … d3 of the input and six convolutions with a row of the kernel:
g0, g1 or g2. Four do, of sums of rows with sums of kernel rows (Winograd's F(2, 3)), since

    even = d0·g0 + d1·g1 + d2·g2 = m0 + m1 + m2      m0 = (d0 − d2)·g0      m1 = (d1 + d2)·(g0 + g1 + g2)/2
    odd  = d1·g0 + d2·g1 + d3·g2 = m1 − m2 − m3      m3 = (d1 − d3)·g2      m2 = (d2 − d1)·(g0 − g1 + g2)/2

where · is a convolution along the row. Rounding is that of a direct convolution; the larger variants of the same idea
save more and round worse. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), there in
two dimensions; in one, the sums are of whole rows, and torch's own convolution does the rest.

**Of doubled pixels.** After every pixel has been repeated twice in both directions, a kernel of 3×3 covers 2×2
different pixels: which, depends on where it stands. So four convolutions of 2×2, with sums of the kernel's values, give
the four pixels of the result at each pixel of the input, with 4/9 of the multiplications and without the large copy.

Shape suffixes: B batch, C channels, H rows, W columns, O output channels, kk kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_CHANNELS = 96  # with fewer, the sums of pairs cost what the multiplications save


def pairs_pay(weight_OCkk: Tensor) -> bool:
    """Whether a convolution of stride 1 is faster in pairs: a wide one in float32 on a CPU."""
    return (
        weight_OCkk.shape[2:] == (3, 3)
        and min(weight_OCkk.shape[:2]) >= MIN_CHANNELS
        and weight_OCkk.dtype == torch.float32
        and weight_OCkk.device.type == "cpu"
    )


def pair_kernels(weight_OCkk: Tensor) -> list[Tensor]:
    """The four row kernels (O, C, 1, 3) that `convolve_pairs` takes."""
    g0, g1, g2 = weight_OCkk.split(1, dim=2)
    return [_channels_last(kernel) for kernel in (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)]


def convolve_pairs(x_BCHW: Tensor, kernels: list[Tensor], bias_O: Tensor | None) -> Tensor:
    """The convolution without padding.

    Args:
        x_BCHW: channels last, H and W three or more.
        kernels: from `pair_kernels`.
        bias_O: added to every output.

    Returns:
        (B, O, H − 2, W − 2), channels last.

    >>> x, weight, bias = torch.randn(1, 5, 7, 6), torch.randn(2, 5, 3, 3), torch.randn(2)
    >>> torch.allclose(convolve_pairs(x, pair_kernels(weight), bias), F.conv2d(x, weight, bias), atol=1e-5)
    True
    """
    rows = x_BCHW.shape[2] - 2
    if rows % 2:
        x_BCHW = F.pad(x_BCHW, (0, 0, 0, 1))
    pairs = (rows + 1) // 2
    d0, d1, d2, d3 = (x_BCHW[:, :, first::2][:, :, :pairs] for first in range(4))
    k0, k1, k2, k3 = kernels
    m1 = F.conv2d(d1 + d2, k1, bias_O)  # the only one that counts once in both
    m2 = F.conv2d(d2 - d1, k2)
    out = m1.new_empty(len(m1), 2 * pairs, m1.shape[3], m1.shape[1]).permute(0, 3, 1, 2)
    even, odd = out[:, :, ::2], out[:, :, 1::2]
    torch.add(F.conv2d(d0 - d2, k0).add_(m1), m2, out=even)
    torch.sub(m1.sub_(m2), F.conv2d(d1 - d3, k3), out=odd)
    return out[:, :, :rows]


def doubled_kernels(weight_OCkk: Tensor) -> list[Tensor]:
    """The kernels (O, C, 2, 2) that `convolve_doubled` takes: for even and odd rows, each for even and odd columns."""
    return [_channels_last(kernel) for rows in _merged(weight_OCkk, 2) for kernel in _merged(rows, 3)]


def convolve_doubled(x_BCHW: Tensor, kernels: list[Tensor], bias_O: Tensor | None) -> Tensor:
    """Nearest upsampling by two, then the convolution.

    Args:
        x_BCHW: the small picture with one pixel more on every side, zeros at its edges.
        kernels: from `doubled_kernels`.
        bias_O: added to every output.

    Returns:
        (B, O, 2H − 4, 2W − 4), channels last.

    >>> x, weight, bias = torch.randn(1, 5, 3, 4), torch.randn(2, 5, 3, 3), torch.randn(2)
    >>> expected = F.conv2d(F.interpolate(x, scale_factor=2), weight, bias, padding=1)
    >>> out = convolve_doubled(F.pad(x, (1, 1, 1, 1)), doubled_kernels(weight), bias)
    >>> torch.allclose(out, expected, atol=1e-5)
    True
    """
    batch, _, height, width = x_BCHW.shape
    out = x_BCHW.new_empty(batch, 2 * (height - 2), 2 * (width - 2), len(kernels[0])).permute(0, 3, 1, 2)
    for number, kernel in enumerate(kernels):
        row, column = divmod(number, 2)
        seen = x_BCHW[:, :, row : row + height - 1, column : column + width - 1]
        out[:, :, row::2, column::2] = F.conv2d(seen, kernel, bias_O)
    return out


def _merged(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Two taps of the three along one dimension: where the last two see the same pixel, and where the first two do."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)


def _channels_last(weight_OCkk: Tensor) -> Tensor:
    return weight_OCkk.contiguous(memory_format=torch.channels_last)
