"""A 3×3 convolution with a third fewer multiplications: Winograd's F(2, 3) along the rows.

Two rows of the result need four rows d0 … d3 of the input and six convolutions with a row of the kernel, g0, g1 or g2.
Four do, of sums of rows with sums of kernel rows, since

    even = d0·g0 + d1·g1 + d2·g2 = m0 + m1 + m2      m0 = (d0 − d2)·g0      m1 = (d1 + d2)·(g0 + g1 + g2)/2
    odd  = d1·g0 + d2·g1 + d3·g2 = m1 − m2 − m3      m3 = (d1 − d3)·g2      m2 = (d2 − d1)·(g0 − g1 + g2)/2

where · is a convolution along the row. Rounding is that of a direct convolution; the larger variants of the same idea
save more and round worse. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), there in
two dimensions; in one, the sums are of whole rows, and torch's own convolution does the rest.

Shape suffixes: B batch, C channels, H rows, W columns, O output channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_CHANNELS = 96  # with fewer, the sums cost what the multiplications save


def pays(weight_OCkk: Tensor) -> bool:
    """Whether a convolution of stride 1 with this kernel is faster this way: wide ones in float32 on a CPU."""
    return (
        weight_OCkk.shape[2:] == (3, 3)
        and min(weight_OCkk.shape[:2]) >= MIN_CHANNELS
        and weight_OCkk.dtype == torch.float32
        and weight_OCkk.device.type == "cpu"
    )


def transform(weight_OCkk: Tensor) -> list[Tensor]:
    """The four row kernels (O, C, 1, 3) that `convolve` takes."""
    g0, g1, g2 = weight_OCkk.split(1, dim=2)
    kernels = g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2
    return [kernel.contiguous(memory_format=torch.channels_last) for kernel in kernels]


def convolve(x_BCHW: Tensor, kernels: list[Tensor], bias_O: Tensor | None) -> Tensor:
    """The convolution without padding.

    Args:
        x_BCHW: float32, channels last, H and W three or more.
        kernels: from `transform`.
        bias_O: added to every output.

    Returns:
        (B, O, H − 2, W − 2), channels last.

    >>> x, weight, bias = torch.randn(1, 5, 7, 6), torch.randn(2, 5, 3, 3), torch.randn(2)
    >>> torch.allclose(convolve(x, transform(weight), bias), F.conv2d(x, weight, bias), atol=1e-5)
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
