"""The state of a run on disk: written atomically, the newest good one found again.

A checkpoint is one file `step-00001200.pt` with the model, its moving average, the optimiser and the step. Random
numbers need no saving: every step draws from generators seeded by (seed, step), so a resumed run repeats exactly what
an uninterrupted one would have done.
"""

import logging
import math
import pickle
from pathlib import Path
from typing import Any

import torch

from omnialpha.imaging.files import atomic_write

logger = logging.getLogger(__name__)

KEEP = 2  # the newest, and one more in case it is torn
COOLDOWN = 0.4  # share of the steps in which the learning rate falls


def save_state(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after `step` steps and remove all but the newest `KEEP` files."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / f"step-{step:08d}.pt") as temporary:
        torch.save({"step": step, **state}, temporary)
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()


def load_state(folder: Path) -> dict[str, Any] | None:
    """Read the newest readable state, None when there is none; a torn file is reported and passed over."""
    for file in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s: torn (%s); using the one before", file, error)
            continue
        return state
    return None


def warmup_and_cooldown(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear up over `warmup` steps, constant, linear down to zero over the last 40 %.

    The constant part does not depend on `steps`: a run can be resumed with another number of them.

    >>> [warmup_and_cooldown(step, 100, 10) for step in (0, 9, 50, 80, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    return min(1.0, (step + 1) / warmup, (steps - step) / (COOLDOWN * steps))


def warmup_and_cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear up over `warmup` steps, then half a cosine down to zero (stage 1 of the paper).

    >>> [round(warmup_and_cosine(step, 110, 10), 3) for step in (0, 9, 10, 60, 110)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
