"""How far a build has come, read from its folder while it works, after it was killed, or when it is done."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnialpha.alphalayers.advance import Dropped, lookup
from omnialpha.alphalayers.build import PASSES, samples_after
from omnialpha.alphalayers.collect import STAGE as COLLECT
from omnialpha.alphalayers.plan import read_plan
from omnialpha.alphalayers.stages import STAGES
from omnialpha.alphalayers.store import Store


@dataclass(frozen=True, kw_only=True)
class PassStatus:
    """One pass over all samples.

    Attributes:
        name: Of `build.PASSES`.
        done: Samples that have passed.
        left: Samples that still have to come; None while an earlier pass decides how many there will be.
        rejected: Samples left out for good, by this pass.
        failed: Samples that failed; `--retry-failed` tries them again.
        reasons: Why samples were left out, to how many; what stands before the first colon.
    """

    name: str
    done: int = 0
    left: int | None = None
    rejected: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def status(out: Path) -> list[PassStatus]:
    """Count what a build has done.

    Args:
        out: Its folder.

    Returns:
        One entry per pass, in their order.

    Raises:
        InputError: Nothing was built there.
    """
    record, backends = read_plan(out)
    found: list[PassStatus] = []
    for name in PASSES:
        if (out / "work" / f"{name}.jsonl").is_file():
            done = _lines(out / "work" / f"{name}.jsonl")
            dropped = [Dropped(**outcome) for outcome in _records(out / "work" / f"{name}.dropped.jsonl")]
            found.append(_counted(name, done, 0, dropped))
        elif name == COLLECT:
            done = sum(1 for _ in (out / "store" / COLLECT).glob("*/*.json"))
            found.append(_counted(name, min(done, record["entries"]), max(0, record["entries"] - done), []))
        elif found[-1].left == 0 and name in STAGES:
            found.append(_at_work(out, name, found[-1].name, backends.get(STAGES[name].role)))
        else:
            left = found[-1].done if found[-1].left == 0 else None
            found.append(PassStatus(name=name, left=left))
    return found


def _at_work(out: Path, name: str, before: str, backend: Any) -> PassStatus:
    """The pass that was begun and is not finished: its samples are looked up in the store."""
    store, done, left = Store(out / "store"), 0, 0
    dropped: list[Dropped] = []
    for sample in samples_after(out, before):
        outcome = lookup(STAGES[name], sample, backend, store)
        if isinstance(outcome, Dropped):
            dropped.append(outcome)
        elif outcome is None:
            left += 1
        else:
            done += 1
    return _counted(name, done, left, dropped)


def _counted(name: str, done: int, left: int, dropped: list[Dropped]) -> PassStatus:
    failed = sum(outcome.kind == "failed" for outcome in dropped)
    reasons = Counter(outcome.reason.partition(":")[0] for outcome in dropped)
    return PassStatus(
        name=name,
        done=done,
        left=left,
        rejected=len(dropped) - failed,
        failed=failed,
        reasons=dict(reasons.most_common()),
    )


def _lines(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(1 for _ in stream)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)
