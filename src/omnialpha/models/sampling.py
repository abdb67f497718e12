"""Sampling rules that do not depend on the model: guidance and the resolution-dependent shift of the noise levels."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def guide(toward: Tensor, away: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance with Qwen's rescale: every token keeps the norm of its conditional prediction.

    Args:
        toward: prediction for the prompt, (B, S, C).
        away: prediction for the negative prompt.
        scale: 1 gives ``toward``.
    """
    combined = away + scale * (toward - away)
    return combined * (toward.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))


def resolution_shift(num_tokens: int, config: Mapping[str, Any]) -> float:
    """The exponent mu that shifts the noise levels: linear in the number of target tokens, by the scheduler's config.

    >>> config = {"base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9}
    >>> round(resolution_shift(256, config), 6), round(resolution_shift(8192, config), 6)
    (0.5, 0.9)
    """
    first, last = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (last - first)
    return config["base_shift"] + slope * (num_tokens - first)
