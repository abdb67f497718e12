"""Latents of a layer sequence: normalisation, and packing into the transformer's tokens and back.

The transformer sees one token per 2x2 block of latent values: layer after layer, each row by row. `pack` and `unpack`
do that for any number of layers; `normalise` and `denormalise` apply the per-channel statistics in the VAE's config.

Shape suffixes: B batch, L layers, C latent channels, H and W latent rows and columns (image size / 8), S tokens.
"""

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from omnialpha.errors import InputError

PATCH = 2
"""Latent rows and columns that make up one token."""


def pack(latents_BLCHW: Tensor) -> Tensor:
    """Latents (B, L, C, H, W) to tokens (B, L · H/2 · W/2, 4 · C).

    Raises:
        InputError: H or W is odd.

    >>> pack(torch.zeros(1, 2, 16, 4, 6)).shape
    torch.Size([1, 12, 64])
    """
    B, L, C, H, W = latents_BLCHW.shape
    if H % PATCH or W % PATCH:
        raise InputError(
            f"latent rows and columns must be even, received {H} x {W}; use sizes that are multiples of 16"
        )
    x = latents_BLCHW.reshape(B, L, C, H // PATCH, PATCH, W // PATCH, PATCH)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(B, L * (H // PATCH) * (W // PATCH), C * PATCH * PATCH)


def unpack(tokens_BSC: Tensor, height: int, width: int) -> Tensor:
    """Tokens (B, S, 4 · C) of L equally large layers to latents (B, L, C, H, W); the inverse of :func:`pack`.

    Args:
        tokens_BSC: the tokens.
        height: H, latent rows of each layer.
        width: W, latent columns of each layer.

    Raises:
        InputError: S is not a whole number of layers.

    >>> unpack(torch.zeros(1, 12, 64), height=4, width=6).shape
    torch.Size([1, 2, 16, 4, 6])
    """
    B, S, C = tokens_BSC.shape
    rows, columns = height // PATCH, width // PATCH
    if S % (rows * columns):
        raise InputError(f"{S} tokens are not a whole number of layers of {rows} x {columns} tokens")
    x = tokens_BSC.reshape(B, S // (rows * columns), rows, columns, C // PATCH**2, PATCH, PATCH)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(B, -1, C // PATCH**2, height, width)


def normalise(latents_BLCHW: Tensor, vae: AutoencoderKLQwenImage) -> Tensor:
    """VAE latents (..., C, H, W) to zero mean and unit variance per channel, by the statistics in the VAE's config."""
    mean, std = _statistics(latents_BLCHW, vae)
    return (latents_BLCHW - mean) / std


def denormalise(latents_BLCHW: Tensor, vae: AutoencoderKLQwenImage) -> Tensor:
    """The inverse of :func:`normalise`: what the VAE's decoder expects."""
    mean, std = _statistics(latents_BLCHW, vae)
    return latents_BLCHW * std + mean


def _statistics(like: Tensor, vae: AutoencoderKLQwenImage) -> tuple[Tensor, Tensor]:
    """Per-channel mean and deviation (C, 1, 1), on the device and in the dtype of ``like``."""
    mean, std = (
        torch.tensor(values, device=like.device, dtype=like.dtype).view(-1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std
