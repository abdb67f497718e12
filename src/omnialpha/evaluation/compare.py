"""Two runs on the same images: paired differences with bootstrap intervals, wins and losses.

The interval is the bias-corrected and accelerated bootstrap (BCa, Efron 1987) of the mean difference, resampling
images. It says how far the difference of the means would move with other images of the same kind; it knows nothing of
other seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from omnialpha.errors import InputError
from omnialpha.evaluation.results import Results, shown_values
from omnialpha.evaluation.scoring import direction
from omnialpha.evaluation.tables import Table

RESAMPLES = 9999
_SAME = ("benchmark", "choices", "rules", "networks")  # settings without which two numbers do not compare


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one task in two runs.

    Attributes:
        task: Its id.
        metric: Its name.
        count: Images that both runs scored, with finite values.
        left_out: Images of either run that are not among them.
        first: Mean of the first run over these images.
        second: Mean of the second.
        difference: Second minus first.
        low: Lower end of its interval; NaN with fewer than two images.
        high: Upper end.
        wins: Images on which the second run is better.
        losses: Images on which the first is.
        ties: Images on which they are equal.
        confidence: Of the interval.
    """

    task: str
    metric: str
    count: int
    left_out: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int
    confidence: float


def compare(
    first: Results,
    second: Results,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    anyway: bool = False,
) -> list[Difference]:
    """Compare two runs image by image.

    Args:
        first: The run that is there.
        second: The run that is compared with it.
        confidence: Of the intervals.
        resamples: Bootstrap samples.
        seed: Of the bootstrap.
        anyway: Compare runs whose settings differ.

    Returns:
        One entry per task and metric that both have.

    Raises:
        InputError: The runs differ in benchmark, data, evaluation size, convention, region or another setting that
            changes what a number means, or share no image.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise InputError("the confidence lies between 0 and 1, and there is at least one bootstrap sample")
    differing = mismatches(first, second)
    if differing and not anyway:
        raise InputError(f"the runs differ in {'; '.join(differing)}; make them alike, or compare them --anyway")
    size = first["settings"]["rules"]["size"], second["settings"]["rules"]["size"]
    values = [_values(results, at) for results, at in zip((first, second), size, strict=True)]
    keys = dict.fromkeys((task, metric) for task, metric in values[0] if (task, metric) in values[1])
    found = [
        _difference(task, metric, values[0][task, metric], values[1][task, metric], confidence, resamples, seed)
        for task, metric in keys
    ]
    if not any(entry.count for entry in found):
        raise InputError("the runs share no image with a score; compare two runs of one benchmark on the same data")
    return found


def mismatches(first: Results, second: Results) -> list[str]:
    """What keeps the numbers of two runs from being comparable, one phrase each; empty when nothing does."""
    pairs: dict[str, tuple[Any, Any]] = {"data": (first["hashes"]["data"], second["hashes"]["data"])}
    for name in _SAME:
        one, other = first["settings"].get(name), second["settings"].get(name)
        if name == "benchmark":
            one, other = first["benchmark"], second["benchmark"]
        if name == "networks":  # where the weights lie does not matter, only what they are
            one, other = ({k: v for k, v in run["hashes"].items() if k != "data"} for run in (first, second))
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            pairs |= {f"{name}: {key}": (one.get(key), other.get(key)) for key in sorted({*one, *other})}
        else:
            pairs[name] = (one, other)
    return [f"{name} ({one} and {other})" for name, (one, other) in pairs.items() if one != other]


def table(differences: list[Difference], names: tuple[str, str]) -> Table:
    """Show a comparison.

    Args:
        differences: What `compare` returned.
        names: Of the two runs.
    """
    rows = []
    for entry in differences:
        interval = f"[{entry.low:+.4g}, {entry.high:+.4g}]"
        better = _verdict(entry)
        numbers = (f"{entry.first:.4g}", f"{entry.second:.4g}", f"{entry.difference:+.4g}", interval)
        counts = (f"{entry.wins}/{entry.ties}/{entry.losses}", str(entry.count), str(entry.left_out))
        rows.append((f"{entry.task} {entry.metric}", *numbers, better, *counts))
    percent = f"{differences[0].confidence:.0%}" if differences else ""
    return Table(
        title=f"B = {names[1]} against A = {names[0]}",
        columns=("Task, metric", "A", "B", "B − A", percent, "Better", "B wins/ties/loses", "Images", "Left out"),
        rows=rows,
        notes=[
            "Intervals: paired BCa bootstrap over images. “–”: the interval holds 0.",
            "Left out: images without a finite score in both runs.",
        ],
    )


def to_dict(differences: list[Difference], names: tuple[str, str]) -> dict[str, Any]:
    """A comparison in JSON types; what is not a number becomes null."""
    entries = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(entry).items()}
        for entry in differences
    ]
    return {"first": names[0], "second": names[1], "differences": entries}


def _values(results: Results, size: str) -> dict[tuple[str, str], dict[str, float]]:
    """Task and metric to image to value."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for record in results["images"]:
        if record["status"] == "scored":
            for metric, value in shown_values(record, size).items():
                values.setdefault((record["task"], metric), {})[record["id"]] = value
    return values


def _difference(
    task: str,
    metric: str,
    first: Mapping[str, float],
    second: Mapping[str, float],
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    # The PSNR of equal pictures is infinite, and infinity minus infinity is nothing.
    shared = [i for i in first if i in second and math.isfinite(first[i]) and math.isfinite(second[i])]
    a, b = (np.array([values[i] for i in shared], np.float64) for values in (first, second))
    better = (b - a) * (1 if direction(metric) == "higher" else -1)
    low, high = _interval(b - a, confidence, resamples, seed)
    return Difference(
        task=task,
        metric=metric,
        count=len(shared),
        left_out=len(first.keys() | second.keys()) - len(shared),
        first=float(a.mean()) if shared else math.nan,
        second=float(b.mean()) if shared else math.nan,
        difference=float((b - a).mean()) if shared else math.nan,
        low=low,
        high=high,
        wins=int((better > 0).sum()),
        losses=int((better < 0).sum()),
        ties=int((better == 0).sum()),
        confidence=confidence,
    )


def _interval(differences: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    if len(differences) < 2:
        return math.nan, math.nan
    if np.ptp(differences) == 0:  # scipy's BCa divides by the spread
        return float(differences[0]), float(differences[0])
    result = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
        batch=max(1, 10_000_000 // len(differences)),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _verdict(entry: Difference) -> str:
    if not (entry.low > 0 or entry.high < 0):  # NaN too
        return "–"
    return "B" if (entry.difference > 0) == (direction(entry.metric) == "higher") else "A"
