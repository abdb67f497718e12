"""Comparing two runs: intervals against a bootstrap written out here, wins, losses, and what is refused."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from omnialpha.errors import InputError
from omnialpha.evaluation.compare import compare, table, to_dict
from omnialpha.evaluation.tables import text

RNG = np.random.default_rng(7)
A = {f"i{k}": float(value) for k, value in enumerate(RNG.gamma(2.0, size=40))}
B = {name: value - 0.15 + 0.3 * float(RNG.standard_normal()) for name, value in A.items()}


def results(values: dict[str, float | str], metric: str = "sad", **rules: str) -> dict[str, Any]:
    return {
        "benchmark": "aim500",
        "method": {"name": "m"},
        "settings": {
            "choices": {"task": "matting_auto"},
            "rules": {"size": "native", "convention": "aim", "region": "whole", "grouped": False} | rules,
        },
        "hashes": {"data": "d"},
        "images": [
            {"id": name, "task": "matting_auto", "status": "scored", "values": {"native": {metric: value}}}
            for name, value in values.items()
        ],
    }


def bca(x: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Efron 1987, written from the formulas."""
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(x, len(x)).mean() for _ in range(resamples)])
    z0 = norm.ppf(np.mean(means < x.mean()))
    jackknife = np.array([np.delete(x, i).mean() for i in range(len(x))])
    d = jackknife.mean() - jackknife
    acceleration = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    levels = norm.cdf(z0 + (z0 + z) / (1 - acceleration * (z0 + z)))
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def test_difference_interval_and_wins() -> None:
    (entry,) = compare(results(dict(A)), results(dict(B)))
    differences = np.array([B[name] - A[name] for name in A])
    assert entry.difference == pytest.approx(differences.mean())
    assert (entry.first, entry.second) == (
        pytest.approx(np.mean(list(A.values()))),
        pytest.approx(np.mean(list(B.values()))),
    )
    low, high = bca(differences, 0.95, 4000, seed=1)
    assert (entry.low, entry.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    # Lower is better for SAD.
    assert (entry.wins, entry.losses, entry.ties) == ((differences < 0).sum(), (differences > 0).sum(), 0)
    assert entry.high < 0
    assert "  B  " in text(table([entry], ("a", "b")))


def test_higher_is_better_turns_the_verdict() -> None:
    (entry,) = compare(results(dict(A), "psnr"), results(dict(B), "psnr"), resamples=500)
    assert entry.wins < entry.losses
    assert "  A  " in text(table([entry], ("a", "b")))


def test_only_shared_finite_images_count() -> None:
    first: dict[str, float | str] = {"a": 1.0, "b": 2.0, "c": "Infinity", "d": 4.0}
    second: dict[str, float | str] = {"a": 2.0, "b": 3.0, "c": "Infinity", "e": 4.0}
    (entry,) = compare(results(first, "psnr"), results(second, "psnr"))
    assert (entry.count, entry.left_out, entry.difference) == (2, 3, 1.0)
    assert (entry.low, entry.high) == (1.0, 1.0)  # all differences are equal
    (single,) = compare(results({"a": 1.0}), results({"a": 2.0}))
    assert to_dict([single], ("x", "y"))["differences"][0]["low"] is None
    with pytest.raises(InputError, match="share no image"):
        compare(results({"a": 1.0}), results({"b": 1.0}))


@pytest.mark.parametrize("rule", [{"size": "generation"}, {"convention": "dim"}, {"region": "trimap"}])
def test_other_settings_are_refused_unless_asked(rule: dict[str, str]) -> None:
    other = results(dict(B), **rule)
    with pytest.raises(InputError, match=f"rules: {next(iter(rule))} .*--anyway"):
        compare(results(dict(A)), other)
    assert compare(results(dict(A)), other, anyway=True, resamples=100)


def test_other_data_is_refused() -> None:
    other = results(dict(B))
    other["hashes"] = {"data": "e", "lpips": "1"}
    with pytest.raises(InputError, match=r"data \(d and e\); networks: lpips"):
        compare(results(dict(A)), other)
