"""The state of a run on disk: written atomically, the newest good one found again.

A checkpoint is one file `step-00001200.pt` with the weights that are trained, their moving average, the optimiser, the
settings and the step. The step is also the state of the schedule, of the random numbers and of the position in the
data: each is a pure function of (seed, step), so a resumed run repeats exactly what an uninterrupted one would have
done, on any number of processes.
"""

import dataclasses
import logging
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write
from omnialpha.training.dit_config import DitConfig
from omnialpha.training.optim import Average

logger = logging.getLogger(__name__)

KEEP = 2  # the newest, and one more in case it is torn
COOLDOWN = 0.4  # share of the steps in which the learning rate falls


def save_state(folder: Path, step: int, state: dict[str, Any], *, keep: int = KEEP) -> None:
    """Write the state after `step` steps and remove all but the newest `keep` files."""
    folder.mkdir(parents=True, exist_ok=True)
    # A file of that step can only be a torn one that `load_state` passed over.
    with atomic_write(folder / f"step-{step:08d}.pt", overwrite=True) as temporary:
        torch.save({"step": step, **state}, temporary)
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink()


def load_state(folder: Path) -> dict[str, Any] | None:
    """Read the newest good state, None when there is none; a torn or damaged file is reported and passed over."""
    for file in sorted(folder.glob("step-*.pt"), reverse=True):
        if (damage := _damage(file)) is None:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state
        logger.warning("%s: torn or damaged (%s); using the one before", file, damage)
    return None


def _damage(file: Path) -> str | None:
    """What is wrong with a file, None when it is whole: torch checks its length, but not its checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            entry = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return str(error)
    return None if entry is None else f"wrong checksum of {entry}"


def snapshot(
    config: DitConfig, parameters: Mapping[str, Tensor], average: Average, optimizers: Sequence[Optimizer]
) -> dict[str, Any]:
    """The state of a stage-2 run as whole tensors on the CPU; where weights are sharded all processes call this."""
    return {
        "config": dataclasses.asdict(config),
        "model": gather(dict(parameters)),
        "average": gather(average.values),
        "optimizers": gather([optimizer.state_dict() for optimizer in optimizers]),
    }


def resume(
    folder: Path,
    config: DitConfig,
    parameters: Mapping[str, Tensor],
    average: Average,
    optimizers: Sequence[Optimizer],
) -> int:
    """Take up the newest checkpoint of a stage-2 run, in place.

    Returns:
        The number of steps done, 0 when there is no checkpoint.

    Raises:
        InputError: the checkpoint is of another model.
    """
    state = load_state(folder)
    if state is None:
        return 0
    settings = dataclasses.asdict(config)
    changed = [
        f"{name} {old!r} → {settings.get(name)!r}" for name, old in state["config"].items() if settings.get(name) != old
    ]
    logger.info("resuming after step %d%s", state["step"], f"; changed: {', '.join(changed)}" if changed else "")
    if state["model"].keys() != parameters.keys() or bool(state["average"]) != bool(average.values):
        raise InputError(f"{folder}: its checkpoint is of another model; choose another folder or the same settings.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(shard_like(state["model"][name], parameter))
            if average.values:
                average.values[name].copy_(shard_like(state["average"][name], parameter))
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, values in saved["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == held[index].shape:
                    values[key] = shard_like(value, held[index])
        optimizer.load_state_dict(saved)
    step: int = state["step"]
    return step


def gather(value: Any) -> Any:
    """A nested state with whole tensors on the CPU, where FSDP keeps shards; every process has to call it."""
    if isinstance(value, dict):
        return {key: gather(item) for key, item in value.items()}
    if isinstance(value, list):
        return [gather(item) for item in value]
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu() if isinstance(value, Tensor) else value


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor where and as `like` is: on its device, cut into the same shards."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device)


def warmup_and_cooldown(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear up over `warmup` steps, constant, linear down to zero over the last 40 %.

    The constant part does not depend on `steps`: a run can be resumed with another number of them.

    >>> [warmup_and_cooldown(step, 100, 10) for step in (0, 9, 50, 80, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    return min(1.0, (step + 1) / max(1, warmup), (steps - step) / (COOLDOWN * steps))


def warmup_and_cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear up over `warmup` steps, then half a cosine down to zero (stage 1 of the paper).

    >>> [round(warmup_and_cosine(step, 110, 10), 3) for step in (0, 9, 10, 60, 110)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
