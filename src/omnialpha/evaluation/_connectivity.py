"""The CONN metric's level sets: how far each pixel stays connected to the largest common component.

The reference codes label the whole picture once per threshold. Here the picture becomes runs of equal level along its
rows, and components grow from the highest level down: every run and every contact between runs is looked at once.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LEVELS = 10


def connected_levels(levels: np.ndarray, *, skip_empty: bool, by_columns: bool) -> np.ndarray:
    """Count the levels through which each pixel stays in the largest component.

    With Ω_i the largest 4-connected component of {levels ≥ i}, the first among equals, a pixel's result is the
    largest n with the pixel in all of Ω_1 … Ω_n.

    Args:
        levels: ``(H, W)`` ``uint8`` in 0 … 10: the number of thresholds that both mattes reach.
        skip_empty: Levels that no pixel reaches let every pixel pass, instead of none.
        by_columns: The first component is the one that a scan column by column meets first; else row by row.

    Returns:
        ``(H, W)`` ``uint8`` in 0 … 10.
    """
    starts, run_of = _runs(levels)
    level_of_run = levels.ravel()[starts]
    lengths = np.diff(starts, append=levels.size)
    height, width = levels.shape
    rank = starts % width * height + starts // width if by_columns else starts
    depth = _connected(level_of_run, lengths, rank, _contacts(starts, run_of, width), skip_empty)
    return np.repeat(depth, lengths).reshape(levels.shape)


def _runs(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat index at which each run of equal level in a row begins, and the run that each pixel belongs to (flat)."""
    begins = np.ones(levels.shape, bool)
    np.not_equal(levels[:, 1:], levels[:, :-1], out=begins[:, 1:])
    run_of = np.cumsum(begins, dtype=np.int32)
    run_of -= 1
    return np.flatnonzero(begins), run_of


def _contacts(starts: np.ndarray, run_of: np.ndarray, width: int) -> np.ndarray:
    """Pairs of 4-connected runs, ``(2, contacts)``; some twice.

    Where two runs of neighbouring rows begin to overlap, one of them starts: it is enough to look up and down there.
    """
    runs = np.arange(len(starts), dtype=np.int32)
    left = runs[starts % width != 0]
    down, up = starts < run_of.size - width, starts >= width
    return np.concatenate(
        [
            np.stack([left, left - 1]),
            np.stack([runs[down], run_of[starts[down] + width]]),
            np.stack([runs[up], run_of[starts[up] - width]]),
        ],
        axis=1,
    )


def _connected(
    level: np.ndarray, length: np.ndarray, rank: np.ndarray, contacts: np.ndarray, skip_empty: bool
) -> np.ndarray:
    """Number of levels, from the first on, through which each run lies in the largest component, ``uint8``."""
    # Runs sorted from the highest level down, so that those of a level set are the first ones.
    order = np.argsort(LEVELS - level, kind="stable").astype(np.int32)
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=np.int32)
    contacts = place[contacts]
    level = level[order]
    joins = level[contacts.max(axis=0)]  # the later run is the lower one
    ends = np.cumsum(np.bincount(LEVELS - level, minlength=LEVELS))

    inside = np.zeros((LEVELS, len(order)), bool)
    component = np.zeros(len(order), np.int32)  # of each run so far
    sizes: np.ndarray = np.zeros(0)  # of each component, pixels
    runs = 0
    for number in range(LEVELS, 0, -1):
        row, end = inside[number - 1], ends[LEVELS - number]
        if end == 0:
            row[:] = skip_empty
            continue
        component[runs:end] = np.arange(len(sizes), len(sizes) + end - runs)
        sizes = np.concatenate([sizes, length[order[runs:end]]])
        first, second = component[contacts[:, joins == number]]
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(sizes), len(sizes)))
        _, merged = connected_components(graph, directed=False)
        component[:end] = merged[component[:end]]
        sizes = np.bincount(merged, weights=sizes)
        runs = end

        largest = np.argmax(sizes)
        tied = sizes == sizes[largest]
        if np.count_nonzero(tied) > 1:
            candidates = np.flatnonzero(tied[component[:end]])
            largest = component[candidates[np.argmin(rank[order[candidates]])]]
        row[:end] = component[:end] == largest

    depth = np.zeros(len(order), np.uint8)
    still = np.ones(len(order), bool)
    for row in inside:
        still &= row
        depth += still
    return depth[place]
