"""Batches of training examples, in an order that needs no state to be resumed.

Any source of data becomes a list of `Group`s (`omnialpha.data.groups`, `omnialpha.data.authors`): examples that share
their numbers of inputs and targets and their size, so that a batch of them is one tensor without padding. `draw_batch`
is a pure function of (seed, step): a resumed run draws what the uninterrupted one would have drawn, and several
processes draw parts of the same batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import numpy as np

from omnialpha.data.buckets import Size

T = TypeVar("T")

TOKEN_PIXELS = 16  # side of the square of pixels behind one token
TEXT_TOKENS = 24  # typical length of a prompt, for sizing batches
_CHOICE, _ORDER, _ROW = range(3)  # what a generator is for: keeps their seeds apart


@dataclass(frozen=True, kw_only=True)
class Group(Generic[T]):
    """What may share a batch.

    Attributes:
        size: width and height of all pictures, pixels.
        num_inputs: n, the same for all.
        num_targets: m, the same for all.
        weight: how often the group is drawn, relative to others.
        items: names of the different ones there are; None when every draw makes a new one.
        draw: number of an item and source of chance to one row of a batch.
    """

    size: Size
    num_inputs: int
    num_targets: int
    weight: float
    items: Sequence[str] | None
    draw: Callable[[int, np.random.Generator], T]

    @property
    def image_tokens(self) -> int:
        """Tokens of all pictures of one row."""
        cells = (self.size[0] // TOKEN_PIXELS) * (self.size[1] // TOKEN_PIXELS)
        return (self.num_inputs + self.num_targets) * cells


def draw_batch(
    groups: Sequence[Group[T]],
    *,
    seed: int,
    step: int,
    batch_size: int,
    batch_tokens: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> list[T]:
    """The batch of a step, or one process's part of it.

    One group is drawn by weight and gives all rows. A group with items gives each of them once before any of them
    again, in an order drawn anew each time round.

    Args:
        groups: of any source.
        seed: of the run.
        step: from 0.
        batch_size: rows of all processes together; rounded down to a multiple of `world`, at least one each.
        batch_tokens: fewer rows where they would have more tokens than this.
        rank: number of this process.
        world: number of processes.

    Returns:
        The rows `rank`, `rank + world`, … of the batch. Which rows there are does not depend on `world` as long as it
        divides their number.
    """
    choices = _choices(tuple(group.weight for group in groups), seed, step + 1)
    number = int(choices[-1])
    group = groups[number]
    rows = batch_size
    if batch_tokens is not None:
        rows = min(rows, batch_tokens // (group.image_tokens + TEXT_TOKENS))
    rows = max(1, rows // world) * world
    before = rows * int(np.count_nonzero(choices[:-1] == number))
    return [
        group.draw(_item(group.items, before + row, (seed, number)), np.random.default_rng([_ROW, seed, step, row]))
        for row in range(rank, rows, world)
    ]


def batches(
    draw: Callable[[int], T], first_step: int, last_step: int, *, ahead: int = 2, workers: int = 0
) -> Iterator[T]:
    """Draw batches in the background while earlier ones are trained on.

    Args:
        draw: step to batch, such as `functools.partial(draw_batch, groups, seed=…, batch_size=…)` with a step.
        first_step: the first step drawn.
        last_step: the first step not drawn any more.
        ahead: batches in preparation at a time, each in its own thread.
        workers: processes that draw instead of threads, `ahead` batches each: drawing is mostly Python, and a GPU
            trains on more pictures than one process draws. They are forked, so the pictures in memory are shared.

    Yields:
        The batches in the order of their steps. An error while drawing is raised when its batch is due.
    """
    if workers:
        yield from _drawn_by_processes(draw, range(first_step, last_step), ahead, workers)
        return
    pool = ThreadPoolExecutor(ahead)
    try:
        pending = [pool.submit(draw, step) for step in range(first_step, min(first_step + ahead, last_step))]
        for step in range(first_step, last_step):
            batch = pending.pop(0).result()
            if step + ahead < last_step:
                pending.append(pool.submit(draw, step + ahead))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


class _Steps(Generic[T]):
    """Batches by step, as torch's loader asks for them."""

    def __init__(self, draw: Callable[[int], T]) -> None:
        self._draw = draw

    def __getitem__(self, step: int) -> T:
        return self._draw(step)


def _drawn_by_processes(draw: Callable[[int], T], steps: range, ahead: int, workers: int) -> Iterator[T]:
    # Imported here, as whoever composes data sets without training needs no torch.
    import torch
    from torch.utils.data import DataLoader

    loader: Iterable[T] = DataLoader(
        cast(Any, _Steps(draw)),  # whatever has __getitem__ serves
        batch_size=None,
        sampler=steps,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=ahead,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # else the loader takes a number from the one that all draw from
    )
    yield from loader


def _as_it_is(batch: T) -> T:
    return batch


def _choices(weights: tuple[float, ...], seed: int, count: int) -> np.ndarray:
    """Numbers of the groups of the first `count` steps."""
    edges = np.cumsum(weights)
    draws = np.random.default_rng([_CHOICE, seed]).random(count)
    return np.searchsorted(edges, draws * edges[-1], side="right").clip(max=len(weights) - 1)


def _item(items: Sequence[str] | None, position: int, key: tuple[int, int]) -> int:
    """Which item stands at a position of the endless sequence of a group's reshuffled items."""
    if items is None:
        return position
    round_number, place = divmod(position, len(items))
    return int(_order(len(items), round_number, key)[place])


@lru_cache(maxsize=256)
def _order(count: int, round_number: int, key: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng([_ORDER, *key, round_number]).permutation(count)
