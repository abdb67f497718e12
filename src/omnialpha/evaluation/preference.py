"""Pairwise preferences: two orders into one verdict, votes into a majority, counts into rates, agreement, a table.

Outcomes are those of the first of two methods, "ours": "win", "tie" or "lose".
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from omnialpha.errors import InputError

Outcome = Literal["win", "tie", "lose"]
OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "lose")

_PAPER_TABLES = Path(__file__).with_name("paper_tables.json")
_PAPER_TABLE = 3  # preferences


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How often ours won, tied and lost.

    Attributes:
        win: Number of cases.
        tie: Likewise.
        lose: Likewise.
        missing: Cases without a verdict; they are in no rate and are reported beside them.
    """

    win: int = 0
    tie: int = 0
    lose: int = 0
    missing: int = 0

    @classmethod
    def count(cls, outcomes: Iterable[Outcome | None]) -> "Preference":
        """Count outcomes; None is a case without a verdict.

        >>> Preference.count(["win", "win", "tie", None])
        Preference(win=2, tie=1, lose=0, missing=1)
        """
        counts = Counter(outcomes)
        return cls(win=counts["win"], tie=counts["tie"], lose=counts["lose"], missing=counts[None])

    @property
    def total(self) -> int:
        """Cases with a verdict."""
        return self.win + self.tie + self.lose

    def to_dict(self) -> dict[str, Any]:
        """Counts, and per outcome its rate with the 95 % Wilson interval; no rates where nothing was judged."""
        counts: dict[str, int] = {outcome: getattr(self, outcome) for outcome in OUTCOMES}
        rates = {
            name: {"rate": count / self.total, "interval": list(wilson_interval(count, self.total))}
            for name, count in counts.items()
            if self.total
        }
        return {**counts, "missing": self.missing, "rates": rates}


def combine(first: Outcome, second: Outcome) -> Outcome:
    """One verdict from both orders of a pair: what they agree on, else a tie.

    Args:
        first: Outcome with ours shown as A.
        second: Outcome with ours shown as B.

    Returns:
        The outcome of the pair.

    >>> combine("win", "win"), combine("win", "lose"), combine("win", "tie")
    ('win', 'tie', 'tie')
    """
    return first if first == second else "tie"


def majority(votes: Preference) -> Outcome | None:
    """The outcome with most votes of a case; a tie where the most votes are shared, None without votes.

    Args:
        votes: The annotators' votes on one case.

    Returns:
        The outcome of the case.

    >>> majority(Preference(win=5, tie=1, lose=4)), majority(Preference(win=4, tie=2, lose=4)), majority(Preference())
    ('win', 'tie', None)
    """
    if not votes.total:
        return None
    most = max(votes.win, votes.tie, votes.lose)
    leaders = [outcome for outcome in OUTCOMES if getattr(votes, outcome) == most]
    return leaders[0] if len(leaders) == 1 else "tie"


def wilson_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson, JASA 1927): sensible for few cases and for rates near 0 or 1.

    With p = count / total and z the normal quantile of (1 + confidence) / 2:
    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n).

    Args:
        count: Successes, 0 … total.
        total: Trials, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound in [0, 1].

    Raises:
        InputError: The numbers fit no such experiment.

    >>> [round(bound, 3) for bound in wilson_interval(9, 10)]
    [0.596, 0.982]
    """
    if not 0 <= count <= total or total < 1 or not 0 < confidence < 1:
        raise InputError(
            f"no rate has {count} successes in {total} trials at confidence {confidence}; check the counts"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = count / total
    centre = rate + z * z / (2 * total)
    spread = z * sqrt(rate * (1 - rate) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    # At the ends the formula gives exactly 0 or 1, up to rounding.
    low = 0.0 if count == 0 else (centre - spread) / scale
    high = 1.0 if count == total else (centre + spread) / scale
    return low, high


def fleiss_kappa(counts: Sequence[Sequence[int]] | np.ndarray) -> float:
    """Fleiss' kappa (Psychological Bulletin 1971): agreement of many annotators beyond chance.

    κ = (P̄ − P̄e) / (1 − P̄e), with P̄ the mean over cases of the share of agreeing pairs of annotators, and P̄e the sum
    of the squared shares of the answers.

    Args:
        counts: ``(cases, answers)``: how many annotators gave which answer. All rows have the same sum, at least 2.

    Returns:
        1 for full agreement, about 0 for chance, negative for less; NaN where all gave one answer to all cases, which
        leaves nothing to agree on beyond chance.

    Raises:
        InputError: The rows have different sums, or there are no two annotators.

    >>> fleiss_kappa([[3, 0, 0], [0, 3, 0]])
    1.0
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not table.size or len(set(table.sum(axis=1))) != 1 or table[0].sum() < 2 or table.min() < 0:
        raise InputError(
            "Fleiss' kappa needs the same number of votes, two or more, on every case; leave the other cases out"
        )
    votes = table[0].sum()
    observed = float(((table**2).sum(axis=1) - votes).mean() / (votes * (votes - 1)))
    expected = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return float("nan") if expected == 1 else (observed - expected) / (1 - expected)


def preference_table(summary: Mapping[str, Preference], names: Sequence[str], judge: str) -> str:
    """Table 3 in Markdown: rates of this judge with intervals, and beside them the paper's for the same task.

    Args:
        summary: Task id to what was counted.
        names: Both methods, ours first.
        judge: Heading of our columns.

    Returns:
        The table, ending in a line break, with a note on cases without a verdict where there are any.
    """
    header, rows = ["Preferred"], {"lose": [names[1]], "win": [names[0]], "tie": ["Tie"]}
    for task, preference in summary.items():
        header.append(f"{task}: {judge} (n = {preference.total})")
        rates = preference.to_dict()["rates"]
        for outcome, row in rows.items():
            row.append(_percent(rates[outcome]) if rates else "–")
        for name, percentages in _paper(task).items():
            header.append(f"paper: {name}")
            for outcome, value in percentages.items():
                rows[outcome].append(f"{value} %")
    lines = [header, ["---"] * len(header), *rows.values()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    missing = {task: preference.missing for task, preference in summary.items() if preference.missing}
    if missing:
        listed = ", ".join(f"{count} of {task}" for task, count in missing.items())
        text += f"\nWithout a verdict, and in no rate: {listed}.\n"
    return text


def _paper(task: str) -> dict[str, dict[Outcome, int]]:
    """The paper's judges on a task: name to percentages of wins, ties and losses; empty for other tasks."""
    tables = json.loads(_PAPER_TABLES.read_text(encoding="utf-8"))["tables"]
    table = next(table for table in tables if table["number"] == _PAPER_TABLE)
    columns = [(group["tasks"], name) for group in table["groups"] for name in group["columns"]]
    rows: dict[Outcome, list[int]] = {
        "win": table["rows"]["Ours"],
        "tie": table["rows"]["Tie"],
        "lose": table["rows"]["LayerDiffuse"],
    }
    return {
        name: {outcome: row[column] for outcome, row in rows.items()}
        for column, (tasks, name) in enumerate(columns)
        if task in tasks
    }


def _percent(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{100 * rate['rate']:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
