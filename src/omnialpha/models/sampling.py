"""Sampling rules that do not depend on the model: the noise, guidance, and the shift of the noise levels by resolution.

Shape suffixes: B batch, L layers, C channels, H and W latent rows and columns, S tokens.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from omnialpha.errors import InputError
from omnialpha.models.latents import PATCH, pack

Generators = torch.Generator | list[torch.Generator] | None


def initial_noise(
    shape_BLCHW: tuple[int, int, int, int, int],
    *,
    latents: Tensor | None = None,
    generator: Generators = None,
    seed: int | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The noise that sampling starts from, packed (B, S, 4 · C).

    Args:
        shape_BLCHW: of the latents before packing.
        latents: the noise itself, packed.
        generator: its source; a list has one for each batch entry.
        seed: the same as a number: entry k is drawn with ``seed + k``, so it does not depend on the other entries.
        device: where it is wanted; seeds give the same noise on every device.
        dtype: its dtype.

    Raises:
        InputError: wrong shape of the latents or number of generators.
    """
    B, L, C, H, W = shape_BLCHW
    if latents is not None:
        packed = (B, L * H * W // PATCH**2, C * PATCH**2)
        if tuple(latents.shape) != packed:
            raise InputError(f"expected packed latents of shape {packed}, received {tuple(latents.shape)}")
        return latents.to(device, dtype)
    if seed is not None:
        generator = [torch.Generator("cpu").manual_seed(seed + k) for k in range(B)]
    if isinstance(generator, list) and len(generator) != B:
        raise InputError(f"expected one generator for each of {B} batch entries, received {len(generator)}")
    return pack(randn_tensor(shape_BLCHW, generator=generator, device=device, dtype=dtype))


def guide(toward: Tensor, away: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance with Qwen's rescale: every token keeps the norm of its conditional prediction.

    Args:
        toward: prediction for the prompt, (B, S, C).
        away: prediction for the negative prompt.
        scale: 1 gives ``toward``.
    """
    combined = away + scale * (toward - away)
    return combined * (toward.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))


def guided_steps(steps: int, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> range:
    """The steps with guidance, as diffusers' guiders count them.

    Args:
        steps: sampling steps in all.
        scale: of guidance; 1 or less turns it off.
        interval: fractions of the steps at which guidance starts and stops.

    Raises:
        InputError: not 0 <= start <= stop <= 1.

    >>> guided_steps(20, 4.0, (0.1, 0.75))
    range(2, 15)
    """
    start, stop = interval
    if not 0 <= start <= stop <= 1:
        raise InputError(f"guidance_interval is (start, stop) with 0 <= start <= stop <= 1, received {tuple(interval)}")
    return range(int(start * steps), int(stop * steps)) if scale > 1 else range(0)


def resolution_shift(num_tokens: int, config: Mapping[str, Any]) -> float:
    """The exponent mu that shifts the noise levels: linear in the number of target tokens, by the scheduler's config.

    >>> config = {"base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9}
    >>> round(resolution_shift(256, config), 6), round(resolution_shift(8192, config), 6)
    (0.5, 0.9)
    """
    first, last = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (last - first)
    return config["base_shift"] + slope * (num_tokens - first)
