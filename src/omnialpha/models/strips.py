"""The layers of the Qwen VAE over one frame that passes by in strips of rows: the tiling without seams.

A 3×3 convolution makes a row from the row above, the row itself and the row below. So each convolution here keeps the
last rows of one strip until the next one comes, and only at the true edges of the picture it sees zeros. No row is
computed twice, none is blended, and every row comes out as from the whole picture, whatever the height of the strips.
What is needed of memory is a few strips instead of a few pictures; and because strips stay in the processor's cache,
this is also the faster way.

Only the self-attention in the middle of encoder and decoder needs the whole picture; there it is an eighth as high and
wide. Small pictures pass whole, several at once: one strip, which is the last one.

This is inference: buffers are written in place. Training takes the modules' own forward (`models/vae.py`).

Shape suffixes: B batch, C channels, H rows, W columns, S pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import (
    QwenImageAttentionBlock,
    QwenImageCausalConv3d,
    QwenImageMidBlock,
    QwenImageResample,
    QwenImageResidualBlock,
    QwenImageRMS_norm,
    QwenImageUpBlock,
)
from torch import Tensor, nn

from omnialpha.models import convolutions

# Writes into `out` what a convolution reads of the rows `x`.
Fill = Callable[[Tensor, Tensor], object]

# Bytes of a full-resolution tensor of a strip: CPUs are quickest within their cache, GPUs with large kernels.
STRIP_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}
EPSILON = 1e-12  # of `torch.nn.functional.normalize`, which the stock norm calls


class Layer(Protocol):
    """A part of the network that takes strips."""

    scale: int  # how many times more rows come out than go in, not counting those that shrink

    def __call__(self, x_BCHW: Tensor, last: bool) -> Tensor:
        """Take the next rows, and whether they are the last ones; return the rows that are ready."""


def encode(vae: AutoencoderKLQwenImage, x_BCHW: Tensor) -> Tensor:
    """Images to the moments of the posterior, in as many strips as `plan` says.

    Args:
        vae: its weights are where `x_BCHW` is.
        x_BCHW: (B, channels, H, W) in [-1, 1].

    Returns:
        (B, 2·z, H/8, W/8).
    """
    encoder = vae.encoder
    layers = [
        Convolution(encoder.conv_in),
        *(layer for block in (*encoder.down_blocks, encoder.mid_block) for layer in layers_of(block)),
        Convolution(encoder.conv_out, activation(encoder.norm_out)),
        Convolution(vae.quant_conv),
    ]
    pictures, rows = plan(vae, x_BCHW)
    return torch.cat([in_strips(part, layers, rows) for part in x_BCHW.split(pictures)])


def decode(vae: AutoencoderKLQwenImage, z_BCHW: Tensor) -> Tensor:
    """Latents to images, in as many strips as `plan` says.

    Args:
        vae: its weights are where `z_BCHW` is.
        z_BCHW: (B, z, h, w), not normalised.

    Returns:
        (B, channels, 8h, 8w), not clamped.
    """
    decoder = vae.decoder
    layers = [
        Convolution(vae.post_quant_conv),
        Convolution(decoder.conv_in),
        *(layer for block in (decoder.mid_block, *decoder.up_blocks) for layer in layers_of(block)),
        Convolution(decoder.conv_out, activation(decoder.norm_out)),
    ]
    pictures, rows = plan(vae, z_BCHW, vae.spatial_compression_ratio)
    return torch.cat([in_strips(part, layers, rows) for part in z_BCHW.split(pictures)])


def plan(vae: AutoencoderKLQwenImage, x_BCHW: Tensor, scale: int = 1) -> tuple[int, int]:
    """How many pictures go together, and how many of their rows.

    Small pictures go together as one strip; of a large one, a strip has as many rows as fit.
    `vae.enable_tiling` sets the size of a strip to the area of its tiles, otherwise `STRIP_BYTES` decides.

    Args:
        vae: the widths of its layers count.
        x_BCHW: pictures or latents.
        scale: pixels along one side of a value of `x_BCHW`.

    Returns:
        Pictures per batch, and the most rows that any layer gets at once, two at least.
    """
    height, width = x_BCHW.shape[2] * scale, x_BCHW.shape[3] * scale
    if vae.use_tiling:
        pixels = vae.tile_sample_min_height * vae.tile_sample_min_width
    else:
        limit = STRIP_BYTES.get(x_BCHW.device.type, STRIP_BYTES["cuda"])
        pixels = limit // (vae.config.base_dim * x_BCHW.element_size())
    if pixels >= height * width:
        return pixels // (height * width), height
    return 1, max(2, pixels // width)


def in_strips(x_BCHW: Tensor, layers: Sequence[Layer], rows: int) -> Tensor:
    """Send a picture through layers that never get more rows at once, and put together what comes out.

    Args:
        x_BCHW: what goes in.
        layers: they remember rows from one strip to the next and forget them after the last. Attention gets the whole.
        rows: most rows of a strip; half as many go into a layer that doubles them.
    """
    for whole, group in groupby(layers, lambda layer: isinstance(layer, Attention)):
        x_BCHW = torch.cat(list(_flow(x_BCHW, True, list(group), x_BCHW.shape[2] if whole else rows)), dim=2)
    return x_BCHW


def _flow(x_BCHW: Tensor, last: bool, layers: Sequence[Layer], rows: int) -> Iterator[Tensor]:
    # Depth first: a strip is through all layers before the next one starts.
    for done, layer in enumerate(layers):
        height = x_BCHW.shape[2]
        fit = max(1, rows // layer.scale)
        if height > fit:
            for top in range(0, height, fit):
                strip = x_BCHW[:, :, top : top + fit]
                yield from _flow(strip, last and top + fit >= height, layers[done:], rows)
            return
        x_BCHW = layer(x_BCHW, last)
    yield x_BCHW


class Convolution:
    """A convolution over strips, with what comes right before it.

    Args:
        conv: of the VAE; of a causal 3-D one the last temporal tap is used, all others see zeros in a single frame.
        fill: the step before the convolution, written straight into the rows that the convolution reads.
        scale: 2 repeats every pixel twice in both directions before a 3×3 convolution.
        margin: rows and columns of zeros around the picture: before it and after it.
    """

    def __init__(
        self,
        conv: nn.Conv2d | QwenImageCausalConv3d,
        fill: Fill = lambda x, out: out.copy_(x),
        *,
        scale: int = 1,
        margin: tuple[int, int] | None = None,
    ) -> None:
        weight = conv.weight[:, :, -1] if isinstance(conv, QwenImageCausalConv3d) else conv.weight
        self.bias, self.out_channels, self.size, self.stride = (
            conv.bias,
            conv.out_channels,
            weight.shape[-1],
            conv.stride[-1],
        )
        self.scale = scale
        self.in_pairs = scale == self.stride == 1 and convolutions.pairs_pay(weight)
        if scale == 2:
            self.kernels = convolutions.doubled_kernels(weight)
        elif self.in_pairs:
            self.kernels = convolutions.pair_kernels(weight)
        else:  # as a strided view it would be copied again for each strip
            self.kernels = [weight.contiguous(memory_format=torch.channels_last)]
        self.fill = fill
        self.before, self.after = margin or (self.size // 2, self.size // 2)
        self.kept: Tensor | None = None

    def __call__(self, x_BCHW: Tensor, last: bool) -> Tensor:
        """Take the next rows, return those that are ready; the last strip brings all that are left."""
        window = self._window(x_BCHW, last)
        ready = max(0, (window.shape[2] - self.size) // self.stride + 1)
        if self.in_pairs and not last:
            ready -= ready % 2
        self.kept = None if last else window[:, :, ready * self.stride :].clone()
        if not ready:
            width = ((window.shape[3] - self.size) // self.stride + 1) * self.scale
            return x_BCHW.new_empty(len(x_BCHW), self.out_channels, 0, width)
        if self.scale == 2:
            return convolutions.convolve_doubled(window, self.kernels, self.bias)
        if self.in_pairs:
            return convolutions.convolve_pairs(window[:, :, : ready + 2], self.kernels, self.bias)
        return F.conv2d(window, self.kernels[0], self.bias, self.stride)

    def _window(self, x_BCHW: Tensor, last: bool) -> Tensor:
        """The kept rows, the new ones after `fill`, and zeros where the picture ends."""
        B, C, height, width = x_BCHW.shape
        top = self.before if self.kept is None else self.kept.shape[2]
        below = self.after if last else 0
        window = x_BCHW.new_empty(B, top + height + below, self.before + width + self.after, C).permute(0, 3, 1, 2)
        window[:, :, :top] = 0 if self.kept is None else self.kept
        window[:, :, top + height :] = 0
        window[..., : self.before] = 0
        window[..., self.before + width :] = 0
        self.fill(x_BCHW, window[:, :, top : top + height, self.before : self.before + width])
        return window


class Residual:
    """The residual block over strips: its convolutions run behind, so rows for the sum wait."""

    scale = 1

    def __init__(self, block: QwenImageResidualBlock) -> None:
        self.first = Convolution(block.conv1, activation(block.norm1))
        self.second = Convolution(block.conv2, activation(block.norm2))
        shortcut = block.conv_shortcut
        self.shortcut = Convolution(shortcut) if isinstance(shortcut, QwenImageCausalConv3d) else None
        self.waiting: Tensor | None = None

    def __call__(self, x_BCHW: Tensor, last: bool) -> Tensor:
        """Take the next rows, return those that are ready."""
        out = self.second(self.first(x_BCHW, last), last)
        x_BCHW = x_BCHW if self.shortcut is None else self.shortcut(x_BCHW, last)
        if self.waiting is not None:
            x_BCHW = torch.cat([self.waiting, x_BCHW], dim=2)
        ready = out.shape[2]
        self.waiting = None if last else x_BCHW[:, :, ready:].clone()
        return out.add_(x_BCHW[:, :, :ready])


def layers_of(block: nn.Module) -> list[Layer]:
    """The layers of one block of encoder or decoder, in order.

    Args:
        block: a residual, attention, resampling, middle or up block. Dropout is left out, and so are the temporal
            convolutions of resampling blocks, which the stock code skips for a first frame.
    """
    if isinstance(block, QwenImageResidualBlock):
        return [Residual(block)]
    if isinstance(block, QwenImageAttentionBlock):
        return [Attention(block)]
    if isinstance(block, QwenImageResample):
        if block.mode.startswith("upsample"):
            return [Convolution(block.resample[1], scale=2)]
        return [Convolution(block.resample[1], margin=(0, 1))]
    if isinstance(block, QwenImageMidBlock):
        first, *others = block.resnets
        pairs = zip(block.attentions, others, strict=True)
        return [*layers_of(first), *(layer for pair in pairs for part in pair for layer in layers_of(part))]
    assert isinstance(block, QwenImageUpBlock), type(block)
    return [layer for part in (*block.resnets, *(block.upsamplers or ())) for layer in layers_of(part)]


class Attention:
    """Self-attention over a whole picture, one head; pixels are tokens as they lie in memory, so nothing is moved."""

    scale = 1

    def __init__(self, block: QwenImageAttentionBlock) -> None:
        self.block = block

    def __call__(self, x_BCHW: Tensor, last: bool) -> Tensor:
        """Take the only strip."""
        assert last
        block = self.block
        h_BCHW = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
        normalise(block.norm, x_BCHW, h_BCHW)
        h_BCHW = F.conv2d(h_BCHW, block.to_qkv.weight, block.to_qkv.bias)
        q, k, v = h_BCHW.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1).chunk(3, dim=-1)
        h_BSC = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        h_BCHW = h_BSC.unflatten(1, x_BCHW.shape[2:]).permute(0, 3, 1, 2)
        return F.conv2d(h_BCHW, block.proj.weight, block.proj.bias).add_(x_BCHW)


def normalise(norm: QwenImageRMS_norm, x_BCHW: Tensor, out: Tensor) -> None:
    """The RMS norm over channels, with its length in float32 as the stock module has it."""
    length = torch.linalg.vector_norm(x_BCHW, dim=1, keepdim=True, dtype=torch.float32).clamp_min_(EPSILON)
    torch.mul(x_BCHW, length.reciprocal_().mul_(norm.scale), out=out)
    out.mul_(norm.gamma.view(-1, 1, 1))


def activation(norm: QwenImageRMS_norm) -> Fill:
    """The norm and SiLU, which come before most convolutions."""

    def fill(x_BCHW: Tensor, out: Tensor) -> None:
        normalise(norm, x_BCHW, out)
        F.silu(out, inplace=True)

    return fill
