"""Few-step adapters: a distilled LoRA beside the RGBA adapter, and the way of sampling that it was distilled for.

A LoRA such as Qwen-Image-Edit-Lightning makes its pictures in four or eight steps without guidance, provided that the
noise levels are those of its distillation. `attach` adds its weights to whatever is attached and lets the defaults of
the pipeline (steps, guidance, scheduler) follow it; `detach` brings both back. What a call says itself still counts.

The settings are in ``NAME.json`` beside ``NAME.safetensors``, as in ``{"steps": 4}``, with the fields of `FewStep`;
the public Lightning files, which have none, are known by their names.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler

from omnialpha.errors import CheckpointError, InputError, nearest
from omnialpha.hub import locate_file
from omnialpha.models.lora import load_lora, unload
from omnialpha.models.profile import Profile
from omnialpha.pipeline import OmniAlphaPipeline

ADAPTER_NAME = "few_step"
"""Name of the adapter among those of the transformer."""

LIGHTNING_SCHEDULER: Mapping[str, Any] = MappingProxyType(
    {
        "use_dynamic_shifting": True,
        "time_shift_type": "exponential",
        "base_shift": math.log(3),  # of every resolution: σ = 3t / (1 + 2t)
        "max_shift": math.log(3),
        "base_image_seq_len": 256,
        "max_image_seq_len": 8192,
        "shift_terminal": None,
    }
)
"""The scheduler that Qwen-Image-Lightning was distilled with (model card of lightx2v/Qwen-Image-Lightning)."""

_LIGHTNING_FILE = re.compile(r"lightning.*?(?<!\d)(\d{1,2})-?steps?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FewStep:
    """How a distilled adapter is sampled.

    Attributes:
        steps: sampling steps.
        true_cfg_scale: guidance; 1: none.
        scheduler: fields of the scheduler's config that differ from the base's.
    """

    steps: int
    true_cfg_scale: float = 1.0
    scheduler: Mapping[str, Any] = field(default_factory=lambda: LIGHTNING_SCHEDULER)


def attach(pipe: OmniAlphaPipeline, file: str | Path) -> None:
    """Add a few-step adapter; calls take its steps, guidance and scheduler unless they say otherwise.

    Args:
        pipe: changed in place. `models.lora.fuse` makes the change final, and then it can be saved.
        file: the LoRA as a file, or as "owner/name/path" on the hub.

    Raises:
        CheckpointError: the file is missing, does not fit the transformer, or says nothing of its steps.
        InputError: a few-step adapter is attached already.
    """
    path = locate_file(file)
    few_step = read_settings(path)
    for key in few_step.scheduler:
        if key not in pipe.scheduler.config:
            raise CheckpointError(f'{path}: unknown scheduler field "{key}"{nearest(key, list(pipe.scheduler.config))}')
    load_lora(pipe.transformer, path, name=ADAPTER_NAME)
    pipe.before_few_step = pipe.profile, pipe.scheduler
    profile = dataclasses.replace(
        pipe.profile,
        name=f"{pipe.profile.name} + {path.stem}",  # part of every result's provenance
        steps=few_step.steps,
        true_cfg_scale=few_step.true_cfg_scale,
        task_steps={},
        task_cfg={},
        mag_ratios=(),  # were measured on other weights
    )
    _use(pipe, profile, FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, **few_step.scheduler))


def detach(pipe: OmniAlphaPipeline) -> None:
    """Remove the few-step adapter; other adapters stay, and the pipeline's defaults are again what they were.

    Raises:
        InputError: none is attached, or it was fused, which is final.
    """
    if pipe.before_few_step is None:
        raise InputError("no few-step adapter is attached to this pipeline; add one with few_step.attach")
    unload(pipe.transformer, name=ADAPTER_NAME)
    _use(pipe, *pipe.before_few_step)
    pipe.before_few_step = None


def read_settings(file: Path) -> FewStep:
    """What the JSON file beside an adapter says, else what the name of a Lightning file says.

    Raises:
        CheckpointError: neither says how many steps, or the JSON file holds something else.

    >>> read_settings(Path("Qwen-Image-Edit-2509-Lightning-8steps-V1.0-bf16.safetensors")).steps
    8
    """
    beside = file.with_suffix(".json")
    if beside.is_file():
        return _parse(beside)
    found = _LIGHTNING_FILE.search(file.stem)
    if found is None:
        raise CheckpointError(
            f'{file}: does not say for how many steps it was made; write {{"steps": 4}}, or what is right, '
            f"into {beside.name} beside it"
        )
    return FewStep(steps=int(found[1]))


def _parse(file: Path) -> FewStep:
    known = [f.name for f in dataclasses.fields(FewStep)]
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: is not valid JSON ({error}); correct it") from error
    if not isinstance(values, dict) or not isinstance(values.get("steps"), int) or values["steps"] < 1:
        raise CheckpointError(f'{file}: expected an object with "steps" of 1 or more, as in {{"steps": 4}}')
    for name in values:
        if name not in known:
            raise CheckpointError(f'{file}: unknown field "{name}"{nearest(name, known)}; expected {", ".join(known)}')
    return FewStep(**values)


def _use(pipe: OmniAlphaPipeline, profile: Profile, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
    pipe.profile = profile
    pipe.register_to_config(profile=profile.to_dict())
    pipe.register_modules(scheduler=scheduler)
