"""From an alpha channel to the three masks that guide the tasks (paper, §3.4 and Appendix B.2).

- precise: alpha > 0.95
- trimap: 255 foreground, 0 background, 128 for the band between them, cut by a disk of k pixels
- rough: the trimap's foreground and band together
"""

import math
from itertools import pairwise

import numpy as np

from omnialpha.errors import InputError

FOREGROUND, UNKNOWN, BACKGROUND = 255, 128, 0
PRECISE_THRESHOLD = 0.95  # τ of Appendix B.2
VISIBLE = 0.05  # of Ω in Eq. 9
KERNEL_RANGE = (0.05, 0.10)  # k as a share of min(H, W), Appendix B.2


def precise_mask(alpha: np.ndarray) -> np.ndarray:
    """Keep what is almost opaque.

    Args:
        alpha: ``(H, W)``, floats in [0, 1] or ``uint8``.

    Returns:
        ``(H, W)`` ``uint8``: 255 where alpha > 0.95, else 0.

    Raises:
        InputError: ``alpha`` has another shape or range.

    >>> precise_mask(np.array([[0.0, 0.95, 0.96, 1.0]])).tolist()
    [[0, 0, 255, 255]]
    """
    return np.where(_checked(alpha) > PRECISE_THRESHOLD, FOREGROUND, BACKGROUND).astype(np.uint8)


def visible_mask(alpha: np.ndarray) -> np.ndarray:
    """Keep what can be seen: Ω of Eq. 9, which inpainting has to cover.

    Args:
        alpha: ``(H, W)``, floats in [0, 1] or ``uint8``.

    Returns:
        ``(H, W)`` ``uint8``: 255 where alpha > 0.05, else 0.

    Raises:
        InputError: ``alpha`` has another shape or range.

    >>> visible_mask(np.array([[0.0, 0.05, 0.06, 1.0]])).tolist()
    [[0, 0, 255, 255]]
    """
    return np.where(_checked(alpha) > VISIBLE, FOREGROUND, BACKGROUND).astype(np.uint8)


def trimap(alpha: np.ndarray, k: float | None = None, generator: np.random.Generator | None = None) -> np.ndarray:
    """Label foreground, background and the unknown band between them.

    Foreground is what an erosion by a disk leaves of {alpha > 0.95}; background is what a dilation by the same disk
    does not reach from {alpha ≥ 0.05}, so that every translucent pixel is in the band. The disk is exact (all pixels
    whose centre is at most k/2 away), and its size does not change the cost. Beyond the border the picture is taken to
    go on as it is.

    The paper calls k the size of the kernel in §3.4 and a radius in Appendix B.2; here it is the size, the diameter.

    Args:
        alpha: ``(H, W)``, floats in [0, 1] or ``uint8``.
        k: Diameter of the disk in pixels, at least 1. By default drawn from U[5 %, 10 %] of min(H, W), rounded, and
            at least 2 so that the band exists.
        generator: Source of the draw; a fresh one by default.

    Returns:
        ``(H, W)`` ``uint8`` of 0, 128 and 255.

    Raises:
        InputError: ``alpha`` or ``k`` is out of range.
    """
    alpha = _checked(alpha)
    if k is None:
        generator = generator if generator is not None else np.random.default_rng()
        k = max(2, round(generator.uniform(*KERNEL_RANGE) * min(alpha.shape)))
    if not 1 <= k < float("inf"):
        raise InputError(f"the disk of a trimap has a diameter k of at least 1 pixel, not {k}")
    solid, present = alpha > PRECISE_THRESHOLD, alpha >= 1 - PRECISE_THRESHOLD
    result = np.full(alpha.shape, UNKNOWN, np.uint8)
    result[~_reached(~solid, k)] = FOREGROUND
    result[~_reached(present, k)] = BACKGROUND
    return result


def rough_mask(trimap: np.ndarray) -> np.ndarray:
    """Everything that may belong to the foreground: the band of a trimap counts as foreground.

    Args:
        trimap: ``(H, W)`` ``uint8`` of 0, 128 and 255.

    Returns:
        ``(H, W)`` ``uint8``: 255 where the trimap is 128 or 255, else 0.

    Raises:
        InputError: There are other values in the trimap.

    >>> rough_mask(np.array([[0, 128, 255]], np.uint8)).tolist()
    [[0, 255, 255]]
    """
    if not np.isin(trimap, (BACKGROUND, UNKNOWN, FOREGROUND)).all():
        raise InputError("a trimap holds only 0, 128 and 255; save it as PNG, without anti-aliasing")
    return np.where(trimap == BACKGROUND, BACKGROUND, FOREGROUND).astype(np.uint8)


def _checked(alpha: np.ndarray) -> np.ndarray:
    """``(H, W)`` floats in [0, 1]."""
    if alpha.ndim != 2 or alpha.size == 0:
        raise InputError(f"an alpha channel has shape (H, W), not {alpha.shape}; take one channel of the image")
    if alpha.dtype == np.uint8:
        return alpha.astype(np.float32) / 255
    # Written so that NaN fails too.
    if not (alpha.min() >= 0 and alpha.max() <= 1):
        raise InputError(f"an alpha channel lies in [0, 1], not [{alpha.min()}, {alpha.max()}]; scale it first")
    return alpha


def _reached(targets: np.ndarray, k: float) -> np.ndarray:
    """Pixels with one of ``targets`` within k/2: a dilation by the exact disk, at a cost that does not depend on k.

    A target ``gap`` pixels above or below covers in this row what its disk has of it: ``half`` pixels to either side.
    So the nearest target of each column decides for its row, and a pixel is covered when one that starts left of it
    reaches as far right as it, or one right of it as far left: running extremes, once along each axis.
    """
    height, width = targets.shape
    reach = math.floor(k * k / 4)  # squared distances are whole numbers
    gaps = range(min(math.isqrt(reach), height) + 1)
    nowhere = height + width + len(gaps)
    number = np.int16 if 2 * nowhere <= np.iinfo(np.int16).max else np.int32  # half the memory, half the time
    halves = np.array([min(math.isqrt(reach - gap * gap), width) for gap in gaps] + [-nowhere], number)
    rows, columns = np.arange(height, dtype=number)[:, None], np.arange(width, dtype=number)
    above = np.where(targets, rows, number(-nowhere))
    below = np.where(targets, rows, number(2 * nowhere))
    # Row by row: `accumulate` goes down one column at a time, which is ten times slower.
    for previous, row in pairwise(above):
        np.maximum(previous, row, out=row)
    for previous, row in pairwise(below[::-1]):
        np.minimum(previous, row, out=row)
    half = np.take(halves, np.minimum(rows - above, below - rows), mode="clip")
    right = np.maximum.accumulate(columns + half, axis=1)
    left = np.minimum.accumulate((columns - half)[:, ::-1], axis=1)[:, ::-1]
    covered: np.ndarray = (right >= columns) | (left <= columns)
    return covered
