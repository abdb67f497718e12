"""What determines the numbers of a run: the benchmark, where predictions come from, and how they are scored."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omnialpha.errors import InputError
from omnialpha.evaluation.benchmark import list_cases
from omnialpha.evaluation.cases import Case
from omnialpha.evaluation.methods import Checkpoint, Method, OneByOne
from omnialpha.evaluation.scoring import Networks, Rules


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where predictions come from: exactly one of a folder, a baseline and a model.

    Attributes:
        predictions: folder of predictions.
        method: name of a baseline.
        model: name, folder or hub id of a checkpoint; with it the fields below.
        adapter: its adapter.
        device: where it runs.
        dtype: its precision.
        seed: of every case, also for baselines that draw.
        steps: sampling steps.
        guidance: scale.

    Raises:
        InputError: None or several of the three.
    """

    predictions: Path | None = None
    method: str | None = None
    model: str | None = None
    adapter: str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("predictions", "method", "model") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(f"give one of --predictions, --method and --model, not {' and '.join(given) or 'none'}")

    def open(self, tasks: Collection[str]) -> Method:
        """The method or the model, for these tasks.

        Raises:
            InputError: There is no such method, or it can do none of the tasks.
        """
        if self.method is not None:
            return OneByOne(self.method, tasks, seed=self.seed)
        assert self.model is not None
        options = {name: getattr(self, name) for name in ("adapter", "device", "dtype", "seed", "steps", "guidance")}
        return Checkpoint(self.model, **options)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that determines the numbers of a run.

    Attributes:
        benchmark: its name.
        data: folder or manifest.
        choices: of the benchmark.
        source: of the predictions.
        rules: how they are scored.
        networks: for the metrics that need one.
        limit: only the first cases; None: all.
        batch: cases per call of a model.
    """

    benchmark: str
    data: Path
    choices: Mapping[str, Any] = field(default_factory=dict)
    source: Source
    rules: Rules = field(default_factory=Rules)
    networks: Networks = field(default_factory=Networks)
    limit: int | None = None
    batch: int = 1

    @cached_property
    def all_cases(self) -> list[Case]:
        """Every case of the benchmark."""
        return list_cases(self.benchmark, self.data, self.choices)

    @property
    def cases(self) -> list[Case]:
        """The cases of this run."""
        return self.all_cases[: self.limit]

    def settings(self) -> dict[str, Any]:
        """Every setting in JSON types."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self), default=lambda path: path.as_posix()))
        return settings
