"""From a folder of cut-outs to a data set of triplets, stage by stage (paper, §3.4).

A stage takes all samples before the next one begins, so that one model is in memory at a time. Between two stages the
samples lie in `OUT/work/<stage>.jsonl`, one per line: memory does not grow with their number. All answers are in
`OUT/store`, so a killed build goes on where it was when it is started again.

    OUT/manifest.jsonl, pictures/, masks/   the data set
    OUT/dropped.jsonl                       what was left out, and why
    OUT/published/                          the data set as others load it
    OUT/build.json, store/, work/           what was asked, what was answered, where the samples are
"""

import fcntl
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from omnialpha.alphalayers import collect as collecting
from omnialpha.alphalayers.advance import Dropped, advance
from omnialpha.alphalayers.assemble import assemble
from omnialpha.alphalayers.parallel import in_order
from omnialpha.alphalayers.plan import Plan, write_plan
from omnialpha.alphalayers.quality import Quality, judge
from omnialpha.alphalayers.score import keep_best
from omnialpha.alphalayers.stages import STAGES, Stage
from omnialpha.alphalayers.store import Store
from omnialpha.alphalayers.triplet import Triplet, read_triplets, write_triplets
from omnialpha.data.sources import Record
from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write, remove_leftovers

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

CHAIN = ("caption", "imagine", "instruct", "edit", "remove", "caption_background", "score")
PASSES = ("collect", "measure", "filter", *CHAIN, "rank", "masks")
"""What the samples go through, in this order."""


class Runner(Protocol):
    """Carries samples through a stage: `Local` in threads, `scale.OnRay` on a cluster. Results keep the order."""

    def collect(self, records: list[Record]) -> Iterator[list[Triplet] | Dropped]:
        """What `collect.collect` returns for each entry of a data set."""

    def advance(self, stage: Stage, samples: Iterable[Triplet]) -> Iterator[Triplet | Dropped]:
        """What `advance.advance` returns for each sample."""


class Local:
    """The runner of one machine: as many threads as it has cores, or as the backend asks for.

    Args:
        plan: Of the build.
        out: Its folder.
        retry_failed: Run stages again where they failed before.
    """

    def __init__(self, plan: Plan, out: Path, *, retry_failed: bool = False) -> None:
        self._plan, self._out, self._retry_failed = plan, out, retry_failed
        self._store = Store(out / "store")
        self._role, self._backend = "", None
        self._cores = min(8, len(os.sched_getaffinity(0)))

    def collect(self, records: list[Record]) -> Iterator[list[Triplet] | Dropped]:
        """See `Runner`."""
        plan = self._plan

        def read(record: Record) -> list[Triplet] | Dropped:
            return collecting.collect(
                record, self._store, size=plan.size, seed=plan.seed, retry_failed=self._retry_failed
            )

        return in_order(read, records, self._cores)

    def advance(self, stage: Stage, samples: Iterable[Triplet]) -> Iterator[Triplet | Dropped]:
        """See `Runner`. A backend stays for the next stage of its role; else the next model may need its memory."""
        if stage.role != self._role:
            self._backend = None
            self._role, self._backend = stage.role, self._plan.backend(stage.role, self._out)
        backend: Any = self._backend

        def step(sample: Triplet) -> Triplet | Dropped:
            return advance(stage, sample, backend, self._store, retry_failed=self._retry_failed)

        return in_order(step, samples, self._cores if backend is None else backend.workers)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a build has made.

    Attributes:
        entries: Of the data set.
        kept: Triplets in the manifest.
        test: Of them held out.
        dropped: Entries and cut-outs left out, by the pass that left them out.
        failed: Of them those that `retry_failed` would try again.
    """

    entries: int
    kept: int
    test: int
    dropped: dict[str, int]
    failed: int


def build(plan: Plan, out: Path, runner: Runner) -> Report:
    """Make a data set, or go on making it.

    Args:
        plan: What to make; the same plan on the same data gives the same bytes, whatever happened in between.
        out: Its folder; may hold earlier builds, whose answers are used again where the same is asked.
        runner: Carries the samples; made for the same plan and folder.

    Returns:
        What was made.

    Raises:
        InputError: The source or a backend's line cannot be understood, or another build works in the folder.
        OmniAlphaError: Something that no sample can be done without: weights, a package, an endpoint, disk space.
    """
    with _alone(out):
        remove_leftovers(out)
        shutil.rmtree(out / "work", ignore_errors=True)
        records = collecting.list_records(plan.source, plan.source_name, plan.limit)
        write_plan(plan, out, len(records))

        count = _pass(out, "collect", _without_twins(runner.collect(records)), len(records))
        count = _pass(out, "measure", runner.advance(STAGES["measure"], samples_after(out, "collect")), count)
        count = _pass(out, "filter", _filtered(out, plan), count)
        for name, previous in zip(CHAIN, ("filter", *CHAIN), strict=False):
            count = _pass(out, name, runner.advance(STAGES[name], samples_after(out, previous)), count)
        count = _pass(out, "rank", _ranked(out, plan.keep), count)
        _pass(out, "masks", runner.advance(STAGES["masks"], samples_after(out, "rank")), count)

        sides = assemble(out, lambda: samples_after(out, "masks"), plan.test)
        dropped, failed = _list_dropped(out)
    return Report(entries=len(records), kept=len(sides), test=sides.count("test"), dropped=dropped, failed=failed)


def samples_after(out: Path, name: str) -> Iterator[Triplet]:
    """The samples as a finished pass has left them, one at a time.

    Args:
        out: Folder of the build.
        name: One of `PASSES`.
    """
    return read_triplets(out / "work" / f"{name}.jsonl", out)


def _pass(out: Path, name: str, outcomes: Iterable[Triplet | Dropped], total: int) -> int:
    """Write down who is left after a pass and who is not; return how many are left."""
    place = out / "work" / f"{name}.dropped.jsonl"
    with atomic_write(place, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as stream:

        def left() -> Iterator[Triplet]:
            for outcome in _progress(outcomes, name, total):
                if isinstance(outcome, Dropped):
                    stream.write(json.dumps(asdict(outcome), sort_keys=True, ensure_ascii=False) + "\n")
                else:
                    yield outcome

        count = write_triplets(left(), out / "work" / f"{name}.jsonl", out)
    logger.info("%s: %d samples", name, count)
    return count


def _progress(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Show rate and time left on stderr: all the time on a terminal, every half minute in a log."""
    interval = 0.2 if sys.stderr.isatty() else 30
    yield from tqdm(items, name, total, unit=" samples", mininterval=interval, maxinterval=interval, file=sys.stderr)


def _without_twins(collected: Iterable[list[Triplet] | Dropped]) -> Iterator[Triplet | Dropped]:
    """All cut-outs, but each picture only once: an id must be unique."""
    first: dict[str, str] = {}
    for outcome in collected:
        for sample in [outcome] if isinstance(outcome, Dropped) else outcome:
            if isinstance(sample, Triplet) and sample.id in first:
                reason = f"the same pixels: as {first[sample.id]}"
                yield Dropped(id=sample.id, name=sample.name, stage="collect", kind="dropped", reason=reason)
                continue
            first[sample.id] = sample.name
            yield sample


def _filtered(out: Path, plan: Plan) -> Iterator[Triplet | Dropped]:
    """Stage 2, the part that compares all cut-outs."""
    store = Store(out / "store")
    qualities = {}
    for sample in samples_after(out, "measure"):
        answer = store.read("measure", sample.stages["measure"])["result"]
        qualities[sample.id] = Quality.from_json(answer["values"]["quality"])
    reasons = judge(qualities, plan.limits)
    return _chosen(samples_after(out, "measure"), "filter", reasons)


def _ranked(out: Path, keep: int) -> Iterator[Triplet | Dropped]:
    """Stage 9, the part that compares all triplets."""
    scores = {sample.id: sample.score for sample in samples_after(out, "score") if sample.score is not None}
    best = set(keep_best(scores, keep))
    reasons = {
        name: f"not among the best {keep} of {len(scores)}: score {score:.6f}"
        for name, score in scores.items()
        if name not in best
    }
    return _chosen(samples_after(out, "score"), "rank", reasons)


def _chosen(samples: Iterable[Triplet], stage: str, reasons: dict[str, str]) -> Iterator[Triplet | Dropped]:
    """The samples without those for which there is a reason."""
    for sample in samples:
        if sample.id in reasons:
            yield Dropped(id=sample.id, name=sample.name, stage=stage, kind="dropped", reason=reasons[sample.id])
        else:
            yield sample


def _list_dropped(out: Path) -> tuple[dict[str, int], int]:
    """Write `dropped.jsonl` out of what the passes left out; return the counts by pass, and how many failed."""
    counts: dict[str, int] = {}
    failed = 0
    with atomic_write(out / "dropped.jsonl", overwrite=True) as temporary, temporary.open("wb") as stream:
        for name in PASSES:
            with (out / "work" / f"{name}.dropped.jsonl").open("rb") as lines:
                for line in lines:
                    stream.write(line)
                    counts[name] = counts.get(name, 0) + 1
                    failed += json.loads(line)["kind"] == "failed"
    return counts, failed


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuse to build where another process is building; a killed one does not count."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{out}: another build is at work there; wait for it, or choose another folder") from error
        yield
