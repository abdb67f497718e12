"""Run a benchmark: predict, save, score, one record per case, so that a run can be stopped, continued and split.

An output folder holds

    run.json                      the settings, so that a folder never mixes two runs
    predictions/<task>/<id>.png   what the method made (unless there was a folder of predictions)
    predictions/method.json       what made them
    records/<task>/<id>.json      scores, or why there are none
    results.json, table.*, …      the report (`results`, `report`, `page`)

A case with a record is not computed again. A failure is a record too, and is tried again by the next run.
"""

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omnialpha.errors import ImageError, InputError, OmniAlphaError
from omnialpha.evaluation.cases import Case, Content, data_hash
from omnialpha.evaluation.methods import Method, check_inputs, group_key
from omnialpha.evaluation.plan import Plan
from omnialpha.evaluation.predictions import Predictions, read_prediction, write_prediction
from omnialpha.evaluation.scoring import score_case, size_of
from omnialpha.imaging.files import atomic_write

Record = dict[str, Any]
Progress = Callable[[int], object]

METHOD_FILE = "method.json"


def evaluate(
    plan: Plan, out: Path, *, shard: tuple[int, int] = (1, 1), workers: int = 1, progress: Progress = lambda done: None
) -> bool:
    """Predict and score the cases of a run, or of one shard of it, that have no record yet.

    Args:
        plan: What to run.
        out: Output folder; the same for all shards, or folders that are put together afterwards.
        shard: ``(k, n)``: the k-th of n parts, from 1.
        workers: Processes at once, each with a method of its own.
        progress: Called with the number of cases done: those that were done before, then after every batch.

    Returns:
        Whether all cases of the run have a record now, so that a report can be written.

    Raises:
        InputError: The folder holds a run with other settings, or nothing can be evaluated.
        CheckpointError: Weights are missing.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise InputError(f"a shard is k/n with 1 ≤ k ≤ n, not {part}/{parts}")
    if workers < 1 or plan.batch < 1 or (plan.limit is not None and plan.limit < 1):
        raise InputError("workers, batch and limit are 1 or more")
    _claim(plan, out)
    worker = Worker(plan, out)
    mine = plan.cases[part - 1 :: parts]
    pending = [case.name for case in mine if not worker.is_done(case)]
    progress(len(mine) - len(pending))
    chunks = [pending[start : start + plan.batch] for start in range(0, len(pending), plan.batch)]
    if workers == 1 or len(chunks) < 2:
        for chunk in chunks:
            worker.do(chunk)
            progress(len(chunk))
    else:
        _in_processes(plan, out, chunks, workers, progress)
    return all(record_file(out, case).is_file() for case in plan.cases)


def record_file(out: Path, case: Case) -> Path:
    """Where the record of a case is."""
    return out / "records" / case.task / f"{case.id}.json"


def read_record(out: Path, case: Case) -> Record | None:
    """The record of a case, None when it has none yet."""
    file = record_file(out, case)
    return read_json(file) if file.is_file() else None


class Worker:
    """Does cases, one chunk after the other.

    Args:
        plan: The run.
        out: Output folder.
    """

    def __init__(self, plan: Plan, out: Path) -> None:
        self._plan, self._out = plan, out
        self._cases = {case.name: case for case in plan.cases}
        given = plan.source.predictions
        self.predictions = None if given is None else Predictions(given, plan.all_cases)
        if self.predictions is not None:
            self.predictions.require_any(plan.all_cases)

    @cached_property
    def _method(self) -> Method:
        """The method, whose identity is noted beside the predictions that it makes."""
        method = self._plan.source.open({case.task for case in self._cases.values()})
        file = self._out / "predictions" / METHOD_FILE
        description = method.describe()
        if not file.is_file():
            write_json(description, file)
        elif read_json(file) != description:
            raise InputError(f"{file}: names other weights or settings than now; choose another output folder")
        return method

    def is_done(self, case: Case) -> bool:
        """Whether a case has been scored, from the prediction that is there now."""
        record = read_record(self._out, case)
        if record is None or record["status"] != "scored":
            return False
        path = self._saved(case)
        return path is not None and file_hash(path) == record["prediction_hash"]

    def do(self, names: Sequence[str]) -> None:
        """Predict, save and score cases; one record each."""
        groups: dict[Any, list[tuple[Case, Content, list[str]]]] = {}
        for case in (self._cases[name] for name in names):
            notes: list[str] = []
            try:
                content = case.read(notes.append)
                if self._saved(case) is None and self.predictions is None:
                    check_inputs(case, content)
            except (ImageError, InputError) as error:
                self._fail(case, error)
                continue
            groups.setdefault(group_key(case, content), []).append((case, content, notes))
        for group in groups.values():
            missing = [(case, content) for case, content, _ in group if self._saved(case) is None]
            failed = self._predict(missing) if missing and self.predictions is None else set()
            for case, content, notes in group:
                if case.name not in failed:
                    self._score(case, content, notes)

    def _predict(self, batch: list[tuple[Case, Content]]) -> set[str]:
        """Make and save predictions; returns the names of the cases that failed."""
        method = self._method  # not a case's fault when it cannot be loaded
        try:
            stacks = method.predict(batch)
        except (ImageError, InputError) as error:
            if len(batch) > 1:  # only one of them may be at fault
                return set().union(*(self._predict([member]) for member in batch))
            self._fail(batch[0][0], error)
            return {batch[0][0].name}
        for (case, _), layers in zip(batch, stacks, strict=True):
            write_prediction(layers, case, self._out / "predictions")
        return set()

    def _score(self, case: Case, content: Content, notes: list[str]) -> None:
        try:
            path = self._saved(case) if self.predictions is None else self.predictions.find(case)
            assert path is not None
            prediction = read_prediction(path, case, notes.append)
            values = score_case(case, content, prediction, self._plan.rules, self._plan.networks, notes.append)
        except (ImageError, InputError) as error:
            self._fail(case, error)
            return
        record = {
            "id": case.id,
            "task": case.task,
            "status": "scored",
            "values": {size: {name: to_json(value) for name, value in v.items()} for size, v in values.items()},
            "native_size": None if content.target is None else list(size_of(content.target)),
            "generation_size": list(size_of(prediction)),
            "conversions": sorted(set(notes)),
            "prediction_hash": file_hash(path),
        }
        write_json(record, record_file(self._out, case))

    def _fail(self, case: Case, error: OmniAlphaError) -> None:
        record = {"id": case.id, "task": case.task, "status": "failed", "error": " ".join(str(error).split())}
        write_json(record, record_file(self._out, case))

    def _saved(self, case: Case) -> Path | None:
        """The prediction of a case; None when it is still to be made, or cannot be told."""
        if self.predictions is not None:
            return self.predictions.get(case)
        place = self._out / "predictions" / case.task / case.id
        path = place if case.kind == "layers" else place.with_name(f"{case.id}.png")
        return path if path.exists() else None


def saved_predictions(plan: Plan, out: Path) -> Predictions:
    """The predictions of a run, given or made, for its report."""
    return Predictions(plan.source.predictions or out / "predictions", plan.all_cases)


def file_hash(path: Path) -> str:
    """A hash of a file, or of the pictures in a folder: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def to_json(value: float) -> float | str:
    """A number that JSON can hold: infinity, which it has no number for, as the text "Infinity" (`float` reads it)."""
    return value if math.isfinite(value) else str(value).replace("inf", "Infinity")


def read_json(file: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        InputError: It is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: cannot be read ({error}); delete it, and run again") from error


def write_json(content: Any, file: Path) -> None:
    """Write a JSON file atomically, replacing an older one."""
    with atomic_write(file, overwrite=True) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def _claim(plan: Plan, out: Path) -> None:
    """Note the settings in the output folder, or refuse a folder that holds a run with others."""
    file = out / "run.json"
    now = {**plan.settings(), "data_hash": data_hash(plan.cases)}
    if file.is_file():
        before = read_json(file)
        changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        if changed:
            raise InputError(
                f"{out}: holds a run with another {', '.join(changed)}; choose another --out "
                "(its predictions can be scored again with --predictions)"
            )
    else:
        write_json(now, file)


_state: dict[str, Any] = {}
"""Of a worker process: what it was started with, and its worker once it has begun."""


def _start(plan: Plan, out: Path, threads: int) -> None:
    _state.update(plan=plan, out=out, threads=threads)


def _do(names: Sequence[str]) -> int:
    if "worker" not in _state:
        if _state["plan"].source.model is not None:
            import torch

            torch.set_num_threads(_state["threads"])
        _state["worker"] = Worker(_state["plan"], _state["out"])
    _state["worker"].do(names)
    return len(names)


def _in_processes(plan: Plan, out: Path, chunks: list[list[str]], workers: int, progress: Progress) -> None:
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Fresh processes: a forked one could inherit a lock that nobody will open. The copy drops what cannot travel.
    context = multiprocessing.get_context("spawn")
    arguments = (replace(plan), out, threads)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=arguments) as pool:
        futures = [pool.submit(_do, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                progress(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
