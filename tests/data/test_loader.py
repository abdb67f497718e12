"""Batches are a pure function of (seed, step), whoever draws them; drawing ahead changes nothing."""

import os
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from omnialpha.data.loader import Group, batches, draw_batch


def draw(name: str, item: int, rng: np.random.Generator) -> tuple[str, int, float]:
    return name, item, rng.random()


def group(name: str, weight: float, items: int | None, size: int = 32) -> Group[tuple[str, int, float]]:
    return Group(
        size=(size, size),
        num_inputs=1,
        num_targets=1,
        weight=weight,
        items=None if items is None else [f"{name}{i}" for i in range(items)],
        draw=partial(draw, name),
    )


GROUPS = [group("a", 3, 10), group("b", 1, 3), group("c", 1, None)]


def test_a_step_draws_the_same_batch_in_any_order_of_calls() -> None:
    steps = [draw_batch(GROUPS, seed=1, step=step, batch_size=4) for step in range(30)]
    for step in (29, 3, 17):
        assert draw_batch(GROUPS, seed=1, step=step, batch_size=4) == steps[step]
    assert len({tuple(batch) for batch in steps}) == 30
    assert [draw_batch(GROUPS, seed=2, step=step, batch_size=4) for step in range(30)] != steps


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_of_one(world) -> None:
    for step in range(10):
        whole = draw_batch(GROUPS, seed=0, step=step, batch_size=8)
        parts = [draw_batch(GROUPS, seed=0, step=step, batch_size=8, rank=rank, world=world) for rank in range(world)]
        for rank, part in enumerate(parts):
            assert part == whole[rank::world]


def test_a_batch_that_processes_cannot_share_evenly_is_rounded_down() -> None:
    sizes = {len(draw_batch(GROUPS, seed=0, step=0, batch_size=8, rank=rank, world=3)) for rank in range(3)}
    assert sizes == {2}
    assert len(draw_batch(GROUPS, seed=0, step=0, batch_size=1, rank=2, world=3)) == 1


def test_every_item_comes_once_before_any_comes_twice() -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for step in range(200):
        for name, item, _ in draw_batch(GROUPS, seed=0, step=step, batch_size=4):
            seen[name].append(item)
    rounds = [tuple(seen["a"][start : start + 10]) for start in range(0, len(seen["a"]) - 9, 10)]
    assert len(rounds) > 20
    assert all(sorted(once) == list(range(10)) for once in rounds)
    assert len(set(rounds)) > 20  # in another order each time
    assert len(set(seen["c"])) == len(seen["c"])


def test_groups_are_drawn_by_weight() -> None:
    drawn = Counter(draw_batch(GROUPS, seed=0, step=step, batch_size=1)[0][0] for step in range(1000))
    assert drawn["a"] == pytest.approx(600, abs=50)
    assert drawn["b"] == pytest.approx(200, abs=40)


def test_large_pictures_come_in_smaller_batches() -> None:
    small, large = group("s", 1, None, size=64), group("l", 1, None, size=256)
    assert len(draw_batch([small], seed=0, step=0, batch_size=8, batch_tokens=1200)) == 8
    assert len(draw_batch([large], seed=0, step=0, batch_size=8, batch_tokens=1200)) == 2  # 2 × (512 + 24)
    assert len(draw_batch([large], seed=0, step=0, batch_size=8, batch_tokens=10)) == 1


def test_drawing_ahead_keeps_the_order_and_stops_at_the_end() -> None:
    calls: list[int] = []

    def record(step: int) -> int:
        calls.append(step)
        return step

    assert list(batches(record, 3, 9, ahead=3)) == list(range(3, 9))
    assert sorted(calls) == list(range(3, 9))
    assert list(batches(record, 5, 5)) == []


def test_processes_draw_what_threads_draw() -> None:
    state = torch.get_rng_state()
    by_processes = list(batches(lambda step: draw_batch(GROUPS, seed=0, step=step, batch_size=3), 2, 9, workers=2))
    assert by_processes == [draw_batch(GROUPS, seed=0, step=step, batch_size=3) for step in range(2, 9)]
    assert torch.equal(torch.get_rng_state(), state)
    assert os.getpid() not in batches(lambda step: os.getpid(), 0, 3, workers=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_drawing_comes_when_its_batch_is_due(workers: int) -> None:
    def fail_at_two(step: int) -> int:
        if step == 2:
            raise OSError("gone")
        return step

    drawn = batches(fail_at_two, 0, 5, workers=workers)
    assert [next(drawn), next(drawn)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(drawn)
