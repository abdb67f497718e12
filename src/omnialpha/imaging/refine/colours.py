"""The colours that belong to the foreground alone: what takes the rim off hair over a new background.

A pixel of the photograph is I = α·F + (1 − α)·B. F and B are looked for together, smooth where alpha changes, by the
multi-level method of Germer et al., "Fast Multi-Level Foreground Estimation" (2020): from one pixel up, every level
starts from the last and improves each pixel i against its neighbours j,

    minimise  ‖I_i − α_i F_i − (1 − α_i) B_i‖² + Σ_j w_ij (‖F_i − F_j‖² + ‖B_i − B_j‖²),   w_ij = ε + |α_i − α_j|

PyMatting has the same method and was the first choice; compiled by Numba it takes half a minute at its first call and
is an extra, while cut-outs are decontaminated by default. Here a level is a handful of array operations.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.refine.planes import resized_plane, strips

REGULARISATION = 1e-5  # ε
SMALL_SIDE = 32  # levels up to this side are cheap and decide the colours of large areas
SMALL_ITERATIONS, ITERATIONS = 10, 4
SOLVED_AREA = 1.5e6  # pixels of the finest level; what is finer, the data term alone decides


def foreground_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Estimate the foreground's colours in a photograph, free of the background that shines through.

    Args:
        image: ``(H, W, 3)`` floats in [0, 1], the composite.
        alpha: ``(H, W)`` floats in [0, 1].

    Returns:
        ``(H, W, 3)`` ``float32`` in [0, 1]; equal to ``image`` where alpha is 1, meaningless where it is 0.

    Raises:
        InputError: The two differ in size.
    """
    if image.shape != (*alpha.shape, 3):
        raise InputError(
            f"the image has shape {image.shape}, the alpha channel {alpha.shape}; give (H, W, 3) and (H, W)"
        )
    colours = np.array(image, np.float32)
    for top, bottom, front, back in _estimates(colours, alpha):
        part, known = alpha[top:bottom, :, None].astype(np.float32), colours[top:bottom]
        # The smallest change of F and B that makes α·F + (1 − α)·B the picture; F = I where α is 1.
        missing = known - part * front - (1 - part) * back
        found = front + missing * part / (part**2 + (1 - part) ** 2)
        colours[top:bottom] = np.where(part >= 1, known, found.clip(0, 1))
    return colours


def _estimates(image: np.ndarray, alpha: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """F and B at full size in strips: (first row, end, F, B), the colours ``(rows, W, 3)``."""
    front, back = _solve(image, alpha)
    for top, bottom, rows in strips(alpha.shape, front.shape[1:]):
        size = alpha.shape[1], bottom - top
        full_front, full_back = (
            np.dstack([resized_plane(plane, size, Image.Resampling.BILINEAR, rows) for plane in colours])
            for colours in (front, back)
        )
        yield top, bottom, full_front, full_back


def _solve(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F and B ``(3, h, w)`` at the finest level."""
    height, width = alpha.shape
    shrink = min(1.0, (SOLVED_AREA / alpha.size) ** 0.5)
    finest = max(1, round(width * shrink)), max(1, round(height * shrink))
    steps = max(finest).bit_length()
    front = back = np.zeros((3, 1, 1), np.float32)
    planes = [resized_plane(plane, finest, Image.Resampling.BOX) for plane in (*np.moveaxis(image, -1, 0), alpha)]
    for level in range(1, steps + 1):
        size = tuple(max(1, round(side ** (level / steps))) for side in finest)
        *channels, small = [resized_plane(plane, (size[0], size[1]), Image.Resampling.NEAREST) for plane in planes]
        front, back = (
            np.stack([resized_plane(plane, (size[0], size[1]), Image.Resampling.NEAREST) for plane in colours])
            for colours in (front, back)
        )
        front, back = _improve(np.stack(channels), small, front, back)
    return front, back


def _improve(
    image: np.ndarray, alpha: np.ndarray, front: np.ndarray, back: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobi steps on one level: per pixel the 2 × 2 system of the minimum, its neighbours held fixed."""
    weights = [np.abs(alpha - _neighbours(alpha, k)) + np.float32(REGULARISATION) for k in range(4)]
    total = sum(weights)
    beta = 1 - alpha
    a, b, c = alpha**2 + total, alpha * beta, beta**2 + total
    determinant = a * c - b**2
    for _ in range(SMALL_ITERATIONS if max(alpha.shape) <= SMALL_SIDE else ITERATIONS):
        right_front, right_back = alpha * image, beta * image
        for k, weight in enumerate(weights):
            right_front += weight * _neighbours(front, k)
            right_back += weight * _neighbours(back, k)
        front = ((c * right_front - b * right_back) / determinant).clip(0, 1)
        back = ((a * right_back - b * right_front) / determinant).clip(0, 1)
    return front, back


def _neighbours(planes: np.ndarray, direction: int) -> np.ndarray:
    """``(…, H, W)`` moved by one pixel in one of the four directions, the border repeated."""
    axis, step = -1 - direction // 2, direction % 2
    size = planes.shape[axis]
    order = np.arange(size) + (1 if step else -1)
    moved: np.ndarray = planes.take(order.clip(0, size - 1), axis=axis)
    return moved
