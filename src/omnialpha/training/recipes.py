"""Every setting of a training run in one frozen record, and the recipes that fill them.

`nano_vae` and `nano_joint` make the embedded checkpoint. `override` changes single fields by name, as the command
line does with ``--set key=value``.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omnialpha.errors import InputError, nearest

Config = TypeVar("Config", "VaeConfig", "JointConfig")


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Stage 1, the RGBA VAE from scratch.

    Attributes:
        steps: optimiser steps.
        batch_size: crops per step.
        crop: side of a crop, pixels.
        learning_rate: peak; see `state.warmup_and_cooldown`.
        warmup: steps of warm-up.
        kl_weight: weight of the KL to N(0, I), mean per latent element.
        base_dim: channels at full resolution.
        dim_mult: channel multiples at each resolution.
        num_res_blocks: residual blocks at each resolution.
        seed: of everything.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
    """

    steps: int
    batch_size: int
    crop: int
    learning_rate: float
    warmup: int
    kl_weight: float
    base_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    seed: int
    save_every: int
    log_every: int


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Stage 2 from scratch: transformer and VLM together, all 21 tasks mixed (Eq. 3).

    Attributes:
        steps: optimiser steps.
        batch_tokens: image tokens per step; a batch holds as many samples of one layer structure as fit.
        size: side of a picture, pixels.
        learning_rate: peak; see `state.warmup_and_cooldown`.
        warmup: steps of warm-up.
        ema_decay: decay of the weights' moving average, reached gradually.
        prompt_dropout: chance that the instruction is replaced by "".
        sigma_shift: noise levels are logit-normal, shifted by s: σ' = sσ / (1 + (s − 1)σ).
        vlm_area: pixels that the VLM sees of a picture.
        layers: transformer blocks.
        heads: attention heads of 32 dimensions.
        vlm_dim: hidden size of the VLM.
        vlm_layers: its decoder layers.
        seed: of everything.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
    """

    steps: int
    batch_tokens: int
    size: int
    learning_rate: float
    warmup: int
    ema_decay: float
    prompt_dropout: float
    sigma_shift: float
    vlm_area: int
    layers: int
    heads: int
    vlm_dim: int
    vlm_layers: int
    seed: int
    save_every: int
    log_every: int


def nano_vae() -> VaeConfig:
    """The VAE of the embedded checkpoint: 64² crops, large batches (two CPU cores, float32)."""
    return VaeConfig(
        steps=2800,
        batch_size=16,
        crop=64,
        learning_rate=6e-4,
        warmup=30,
        kl_weight=1e-4,
        base_dim=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=1,
        seed=0,
        save_every=200,
        log_every=20,
    )


def nano_joint() -> JointConfig:
    """Transformer and VLM of the embedded checkpoint at 64²: few tokens, many samples."""
    return JointConfig(
        steps=2400,
        batch_tokens=3072,
        size=64,
        learning_rate=3e-3,
        warmup=50,
        ema_decay=0.99,
        prompt_dropout=0.1,
        sigma_shift=1.5,
        vlm_area=64 * 64,
        layers=6,
        heads=6,
        vlm_dim=192,
        vlm_layers=3,
        seed=0,
        save_every=200,
        log_every=20,
    )


def nano_finetune() -> JointConfig:
    """The same model at 128², from the weights of `nano_joint`: rotary positions carry over."""
    return dataclasses.replace(
        nano_joint(), steps=200, size=128, learning_rate=3e-4, ema_decay=0.98, sigma_shift=2.0, seed=1
    )


def override(config: Config, changes: Mapping[str, str]) -> Config:
    """Change fields of a recipe by name.

    Args:
        config: a recipe's record.
        changes: field name to value, written as JSON ("3", "1e-4", "[1, 2]").

    Returns:
        The changed record.

    Raises:
        InputError: a field does not exist (the nearest name is suggested) or its value has another type.

    >>> override(nano_vae(), {"steps": "10"}).steps
    10
    """
    parsed: dict[str, Any] = {}
    names = [field.name for field in dataclasses.fields(config)]
    for name, text in changes.items():
        if name not in names:
            raise InputError(f"unknown setting {name!r}{nearest(name, names)}; settings: {', '.join(names)}.")
        old = getattr(config, name)
        try:
            value = json.loads(text)
            parsed[name] = type(old)(value)
        except (ValueError, TypeError) as error:
            raise InputError(f"setting {name}: expected {type(old).__name__} like {old!r}, got {text!r}.") from error
    return dataclasses.replace(config, **parsed)
