"""The stages on a cluster: a runner for `build` that carries samples through actors of Ray Data.

An actor calls what a thread of one machine calls, so answers, order and errors are the same, byte for byte. Streaming,
scheduling and the restart of lost actors are Ray's. The folder of the build has to be one that all machines see.
"""

import json
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from omnialpha.alphalayers import collect as collecting
from omnialpha.alphalayers.advance import Dropped, advance
from omnialpha.alphalayers.parallel import in_order
from omnialpha.alphalayers.plan import Plan
from omnialpha.alphalayers.stages import STAGES, Stage
from omnialpha.alphalayers.store import Store
from omnialpha.alphalayers.triplet import Triplet, write_triplets
from omnialpha.data.sources import Record
from omnialpha.errors import InputError, OmniAlphaError
from omnialpha.extras import require

_MODELS = ("diffusers", "omnialpha", "transformers")  # the kinds of backends that want a GPU
_BATCH = 4  # samples per call of an actor and thread: few, or the last actor works while the others are done


class OnRay:
    """A `build.Runner` on Ray Data; a context manager, which leaves the cluster at the end.

    Args:
        plan: Of the build.
        out: Its folder.
        address: Of a cluster, "auto" for the one that this machine belongs to, "local" for a Ray of this machine alone,
            which ends with the build; None for the cluster that the environment names (RAY_ADDRESS), else "local".
        workers: Actors at most per stage; default: one for each core of the cluster, or each GPU where the stage's
            backend runs a model and the cluster has any.
        retry_failed: As for `build.Local`.

    Raises:
        InputError: There is no cluster at the address.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        plan: Plan,
        out: Path,
        *,
        address: str | None = None,
        workers: int | None = None,
        retry_failed: bool = False,
    ) -> None:
        self._ray = require("ray", extra="ray")
        self._data = require("ray.data", extra="ray")
        self._plan, self._out, self._workers, self._retry_failed = plan, out.resolve(), workers, retry_failed
        try:
            self._ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(f'no Ray cluster at "{address}" ({error}); start one, or leave the address out') from error
        context = self._data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False  # `build` has its own
        logging.getLogger("ray.data").setLevel(logging.WARNING)

    def __enter__(self) -> "OnRay":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ray.shutdown()

    def collect(self, records: list[Record]) -> Iterator[list[Triplet] | Dropped]:
        """See `build.Runner`."""
        rows = self._data.from_items([{"item": pickle.dumps(record)} for record in records])
        for found in self._map(rows, "", _Collecting, (self._plan, self._out, self._retry_failed)):
            outcomes = json.loads(found)
            if isinstance(outcomes, dict):
                yield Dropped(**outcomes)
            else:
                yield [Triplet.from_json(outcome, self._out) for outcome in outcomes]

    def advance(self, stage: Stage, samples: Iterable[Triplet]) -> Iterator[Triplet | Dropped]:
        """See `build.Runner`."""
        # Through a file, or all samples of the pass would have to be in memory before the first is begun.
        lines = self._out / "work" / f"{stage.name}.ray.jsonl"
        write_triplets(samples, lines, self._out)
        rows = self._data.read_text(str(lines)).rename_columns({"text": "item"})
        arguments = (self._plan, self._out, stage.name, self._retry_failed)
        for found in self._map(rows, stage.role, _Advancing, arguments):
            outcome = json.loads(found)
            yield Dropped(**outcome["dropped"]) if "dropped" in outcome else Triplet.from_json(outcome, self._out)
        lines.unlink()

    def _map(self, rows: Any, role: str, actor: type, arguments: tuple[Any, ...]) -> Iterator[str]:
        """Send the items of a dataset through actors; their answers in the same order."""
        resources = self._ray.cluster_resources()
        backend = self._plan.backend(role, self._out)
        on_gpu = "GPU" in resources and backend is not None and backend.name.partition(":")[0] in _MODELS
        most = self._workers or max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))
        threads = 1 if backend is None else backend.workers
        results = rows.repartition(target_num_rows_per_block=_BATCH * threads).map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=_BATCH * threads,
            compute=self._data.ActorPoolStrategy(min_size=1, max_size=most),
            num_gpus=1 if on_gpu else 0,
            num_cpus=0 if on_gpu else 1,
        )
        for row in results.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            yield row["answer"]


class _Collecting:
    """An actor that collects."""

    def __init__(self, plan: Plan, out: Path, retry_failed: bool) -> None:
        self._plan, self._out, self._retry_failed = plan, out, retry_failed
        self._store = Store(out / "store")

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pickled records in, JSON out."""
        return _answers(self._collect, batch, workers=1)

    def _collect(self, item: bytes) -> dict[str, Any] | list[dict[str, Any]]:
        plan = self._plan
        found = collecting.collect(
            pickle.loads(item), self._store, size=plan.size, seed=plan.seed, retry_failed=self._retry_failed
        )
        return asdict(found) if isinstance(found, Dropped) else [sample.to_json(self._out) for sample in found]


class _Advancing:
    """An actor that brings samples one stage further; its backend stays with it."""

    def __init__(self, plan: Plan, out: Path, stage: str, retry_failed: bool) -> None:
        self._stage, self._out, self._retry_failed = STAGES[stage], out, retry_failed
        self._store = Store(out / "store")
        self._backend = plan.backend(self._stage.role, out)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """JSON in, JSON out."""
        return _answers(self._advance, batch, workers=1 if self._backend is None else self._backend.workers)

    def _advance(self, line: str) -> dict[str, Any]:
        sample = Triplet.from_json(json.loads(line), self._out)
        found = advance(self._stage, sample, self._backend, self._store, retry_failed=self._retry_failed)
        return {"dropped": asdict(found)} if isinstance(found, Dropped) else found.to_json(self._out)


def _answers(function: Callable[[Any], Any], batch: Mapping[str, np.ndarray], workers: int) -> dict[str, np.ndarray]:
    """Apply a function; an error that ends the build is an answer too, or Ray would wrap it beyond recognition."""
    try:
        answers, error = [json.dumps(answer) for answer in in_order(function, batch["item"], workers)], b""
    except OmniAlphaError as problem:
        answers, error = [""], pickle.dumps(problem)
    return {"answer": np.array(answers, dtype=object), "error": np.array([error] * len(answers), dtype=object)}
