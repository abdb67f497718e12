"""What a run shows while it goes: a progress bar, `log.jsonl`, TensorBoard or Weights & Biases.

The log holds one JSON object per `log_every` steps: step, means of what the steps reported, samples so far and per
second; and one per validation. All processes may call `Progress`; the main one shows.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import TracebackType

import numpy as np
from accelerate import PartialState
from PIL import Image
from tqdm import tqdm

from omnialpha.extras import require
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.rgba import save_png

LOG = "log.jsonl"
TRACKERS = ("tensorboard", "wandb", "none")

Tracker = Callable[[Mapping[str, float], Mapping[str, Image.Image], int], None]
"""Records values and pictures by name, at a step."""


class Progress:
    """Collects what steps report and shows their means; a context manager.

    Args:
        folder: of the run.
        name: what the bar is labelled.
        first: steps done before; what the log holds beyond them was lost with a killed run and is cut off.
        steps: at which the run ends.
        log_every: steps between log lines.
        tracker: one of `TRACKERS`.

    Raises:
        MissingExtraError: the tracker's package is not installed.
    """

    def __init__(self, folder: Path, *, name: str, first: int, steps: int, log_every: int, tracker: str) -> None:
        self._folder, self._steps, self._log_every = folder, steps, log_every
        self._main = PartialState().is_main_process
        self._values: dict[str, list[float]] = defaultdict(list)
        self._samples = self._samples_before = 0
        self._track: Tracker = _no_tracker
        if self._main:
            self._samples_before = _cut_log(folder / LOG, first)
            self._track = open_tracker(tracker, folder, first)
        self._bar = tqdm(
            total=steps,
            initial=first,
            desc=name,
            unit="step",
            disable=not self._main,
            dynamic_ncols=True,
            mininterval=1,
        )
        self._start = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, done: int, samples: int, *, lr: float, **values: float | Sequence[float]) -> None:
        """Note a step.

        Args:
            done: steps done, this one included.
            samples: how many it was made of, over all processes.
            lr: its learning rate.
            **values: numbers by name, or several of a name; "loss" is shown in the bar.
        """
        for name, value in values.items():
            self._values[name] += value if isinstance(value, Sequence) else [value]
        self._samples += samples
        self._bar.update()
        if done % self._log_every and done != self._steps:
            return
        means = {name: fmean(found) for name, found in self._values.items()}
        self._values.clear()
        rate = self._samples / (time.monotonic() - self._start)
        self._bar.set_postfix(loss=f"{means.get('loss', 0):.4f}", lr=f"{lr:.1e}", samples_per_s=f"{rate:.1f}")
        counts = {"samples": self._samples_before + self._samples, "samples_per_s": rate}
        self.scalars(means | {"lr": lr} | counts, done)

    def scalars(self, values: Mapping[str, float], done: int) -> None:
        """Record values after so many steps."""
        if self._main:
            with (self._folder / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": done, **values}) + "\n")
            self._track(values, {}, done)

    def figure(self, name: str, picture: Image.Image, done: int) -> None:
        """Record a picture, and keep it as ``<name>/step-*.png`` in the folder of the run."""
        if self._main:
            save_png(picture.convert("RGBA"), self._folder / name / f"step-{done:08d}.png", overwrite=True)
            self._track({}, {name: picture}, done)


def open_tracker(tracker: str, folder: Path, first: int) -> Tracker:
    """The tracker of a run, which goes on where a resumed run stands.

    Raises:
        MissingExtraError: its package is not installed.
    """
    if tracker == "none":
        return _no_tracker
    if tracker == "wandb":
        wandb = require("wandb", "wandb")
        run = wandb.init(project="omnialpha", name=folder.name, id=folder.resolve().name, resume="allow", dir=folder)

        def to_wandb(values: Mapping[str, float], pictures: Mapping[str, Image.Image], step: int) -> None:
            shown = {name: wandb.Image(picture) for name, picture in pictures.items()}
            run.log({**values, **shown}, step=step)

        return to_wandb

    require("tensorboard", "train")
    from torch.utils.tensorboard import SummaryWriter  # fails without the package just asked for

    writer = SummaryWriter(folder / "tensorboard", purge_step=first)

    def to_tensorboard(values: Mapping[str, float], pictures: Mapping[str, Image.Image], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            writer.add_image(name, np.asarray(picture), step, dataformats="HWC")
        writer.flush()

    return to_tensorboard


def _no_tracker(values: Mapping[str, float], pictures: Mapping[str, Image.Image], step: int) -> None:
    """Record nothing."""


def _cut_log(file: Path, first: int) -> int:
    """Remove the records after `first` steps; the number of samples seen until then."""
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    kept = [record for record in records if record["step"] <= first]
    if len(kept) < len(records):
        with atomic_write(file, overwrite=True) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
    return max((record.get("samples", 0) for record in kept), default=0)
