"""Planes of floats at several sizes, and large ones in strips so that memory stays small."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

STRIP = 256  # rows at once at full size

Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""


def resized_plane(
    plane: np.ndarray, size: Size, method: Image.Resampling, rows: tuple[float, float] | None = None
) -> np.ndarray:
    """A plane of floats at another size.

    Args:
        plane: ``(H, W)``.
        size: Width and height of the result.
        method: Pillow's filter.
        rows: Take only these rows of the plane (from, to; fractions allowed). Neighbours beyond them still count, so
            strips join without seams.

    Returns:
        ``float32`` of the size; not clipped.
    """
    box = None if rows is None else (0, rows[0], plane.shape[1], rows[1])
    return np.array(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, method, box=box))


def strips(shape: tuple[int, ...], source: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[float, float]]]:
    """Rows of a large plane in strips: (first, end, the same in rows of a smaller ``source``)."""
    factor = source[0] / shape[0]
    for top in range(0, shape[0], STRIP):
        bottom = min(top + STRIP, shape[0])
        yield top, bottom, (top * factor, min(bottom * factor, source[0]))
