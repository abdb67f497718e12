"""Means that merge: any split of the images gives one result."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnialpha.errors import InputError
from omnialpha.evaluation.accumulate import Mean


def _mean(values: list[float]) -> Mean:
    mean = Mean()
    for value in values:
        mean.update({"mse": value})
    return mean


@given(st.lists(st.floats(-1e12, 1e12), min_size=1), st.randoms(), st.integers(0, 100))
def test_any_split_gives_the_same_bits(values: list[float], random: object, cut: int) -> None:
    whole = _mean(values)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = _mean(shuffled[cut:]), _mean(shuffled[:cut])
    first.merge(Mean.from_dict(json.loads(json.dumps(second.to_dict()))))
    assert first.compute() == whole.compute()
    assert first.counts == whole.counts == {"mse": len(values)}


def test_merging_with_itself_and_infinity() -> None:
    mean = _mean([1.0, 2.0])
    mean.merge(mean)
    assert (mean.compute(), mean.counts) == ({"mse": 1.5}, {"mse": 4})
    mean.update({"mse": float("inf")})
    mean.update({"mse": 1.0})
    assert mean.compute() == {"mse": float("inf")}


def test_nan_is_refused_before_anything_is_added() -> None:
    mean = Mean()
    with pytest.raises(InputError, match='"mse" is not a number'):
        mean.update({"sad": 1.0, "mse": float("nan")})
    assert mean.compute() == {}
