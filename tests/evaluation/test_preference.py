"""Preferences against scipy and published examples: Wilson intervals, Fleiss' kappa, majorities, Table 3."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from omnialpha.errors import InputError
from omnialpha.evaluation.preference import (
    OUTCOMES,
    Outcome,
    Preference,
    combine,
    fleiss_kappa,
    majority,
    preference_table,
    wilson_interval,
)


@pytest.mark.parametrize(("count", "total"), [(0, 1), (0, 20), (1, 3), (45, 50), (88, 100), (7, 7), (5000, 9999)])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_wilson_interval_equals_scipy(count: int, total: int, confidence: float) -> None:
    theirs = binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert wilson_interval(count, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("count", "total", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_wilson_interval_refuses_nonsense(count: int, total: int, confidence: float) -> None:
    with pytest.raises(InputError, match="successes"):
        wilson_interval(count, total, confidence)


def test_fleiss_kappa_of_a_published_example() -> None:
    """Fourteen annotators, ten cases, five answers: the worked example of Wikipedia's article "Fleiss' kappa"."""
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_of_clear_cases() -> None:
    assert fleiss_kappa([[10, 0, 0], [0, 0, 10], [0, 10, 0]]) == 1
    assert fleiss_kappa([[1, 1, 0], [1, 1, 0]]) == -1  # two annotators who never agree
    assert math.isnan(fleiss_kappa([[4, 0, 0], [4, 0, 0]]))


@pytest.mark.parametrize("table", [[[1, 2, 0], [1, 1, 0]], [[1, 0, 0]], [], [[3, -1, 0]]])
def test_fleiss_kappa_refuses_uneven_votes(table: list[list[int]]) -> None:
    with pytest.raises(InputError, match="same number of votes"):
        fleiss_kappa(table)


@given(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES))
def test_orders_combine_symmetrically(first: Outcome, second: Outcome) -> None:
    assert combine(first, second) == combine(second, first) == (first if first == second else "tie")


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_majority_mirrors_when_methods_change_places(win: int, tie: int, lose: int) -> None:
    mirror: dict[Outcome | None, Outcome | None] = {"win": "lose", "tie": "tie", "lose": "win", None: None}
    found = majority(Preference(win=win, tie=tie, lose=lose))
    assert majority(Preference(win=lose, tie=tie, lose=win)) == mirror[found]
    if found == "win":
        assert win > max(tie, lose)


def test_rates_leave_missing_verdicts_out_and_the_table_says_so() -> None:
    counted = Preference(win=8, tie=1, lose=1, missing=1)
    assert counted.to_dict()["rates"]["win"]["rate"] == 0.8
    table = preference_table({"background_to_composite": counted, "new": Preference()}, ["ours", "theirs"], "VLM")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    header, _, theirs, ours, ties = lines
    assert header[1:5] == ["background_to_composite: VLM (n = 10)", "paper: Qwen3-VL", "paper: GPT-4o", "paper: Human"]
    assert ours == ["ours", "80 % (49–94)", "85 %", "87 %", "95 %", "–"]  # the paper's Table 3, BG2FULL
    assert theirs == ["theirs", "10 % (2–40)", "3 %", "5 %", "3 %", "–"]
    assert ties == ["Tie", "10 % (2–40)", "12 %", "8 %", "2 %", "–"]
    assert "in no rate: 1 of background_to_composite." in table
