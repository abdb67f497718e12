"""Sizes that pictures share: aspect buckets, and the fit of a picture into one.

A batch is one tensor, so its pictures have one size. Padding would be computed and thrown away; instead every picture
is scaled to cover its bucket and cropped around the centre. Buckets are a quarter octave of aspect ratio apart, so
little is cut off, and pictures of any resolution meet in few sizes.
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.decode import open_picture
from omnialpha.imaging.files import explained, opened

Size = tuple[int, int]
"""Width and height in pixels."""

RATIOS_PER_OCTAVE = 4
WIDEST = 2  # octaves: ratios beyond 1:4 and 4:1 are cropped to those
EMPTIEST = 0.75  # a bucket's area is at least this share of its level's
UNUSED_COST = 0.25  # a quarter of the area left unused weighs as much as a sixteenth of an octave cropped off
ENLARGEMENT = 1.25  # a picture joins a level of up to this many times its own area, rather than lose half of itself

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side


def bucket_size(size: Size, *, area: int, grid: int) -> Size:
    """The size at which a picture trains.

    Large pictures come to about `area` pixels; smaller ones to half of it, a quarter and so on, so that none is
    enlarged noticeably.

    Args:
        size: the picture's own width and height.
        area: the most pixels of a bucket.
        grid: widths and heights are multiples of this.

    Returns:
        Width and height of the bucket.

    Raises:
        InputError: not even one cell of the grid fits into the area.

    >>> [bucket_size(size, area=512 * 512, grid=32) for size in ((4000, 3000), (3000, 4000), (600, 600), (300, 300))]
    [(576, 416), (416, 576), (512, 512), (256, 256)]
    """
    if area < grid * grid:
        raise InputError(f"a bucket needs at least {grid} × {grid} pixels, received area={area}; make it larger")
    width, height = size
    halvings = max(0, math.ceil(math.log2(area / (width * height * ENLARGEMENT))))
    level = max(grid * grid, area >> halvings)
    step = round(math.log2(width / height) * RATIOS_PER_OCTAVE)
    return _best(level, grid, max(-WIDEST * RATIOS_PER_OCTAVE, min(WIDEST * RATIOS_PER_OCTAVE, step)))


@lru_cache(maxsize=4096)
def _best(level: int, grid: int, step: int) -> Size:
    """The size on the grid whose ratio is near 2^(step / 4) and that nearly fills the level."""
    cells = level // grid**2
    candidates = [
        (columns, rows)
        for columns in range(1, cells + 1)
        for rows in range(1, cells // columns + 1)
        if columns * rows >= EMPTIEST * cells
    ]

    def cost(candidate: tuple[int, int]) -> tuple[float, tuple[int, int]]:
        columns, rows = candidate
        cropped = abs(math.log2(columns / rows) - step / RATIOS_PER_OCTAVE)
        unused = 1 - columns * rows / cells
        return round(cropped + UNUSED_COST * unused, 6), candidate

    columns, rows = min(candidates, key=cost)
    return columns * grid, rows * grid


def fit(picture: Image.Image, size: Size) -> np.ndarray:
    """Scale a picture to cover a size and crop it around its centre.

    Args:
        picture: an "RGBA" image.
        size: width and height in pixels.

    Returns:
        float32 (H, W, 4) in [0, 1], straight alpha, RGB 0 where alpha is 0.
    """
    width, height = picture.size
    share = min(width / size[0], height / size[1])
    # Bounded: rounding can put a box that spans the whole picture a hair outside of it.
    left, top = max(0.0, (width - size[0] * share) / 2), max(0.0, (height - size[1] * share) / 2)
    box = (left, top, min(width, left + size[0] * share), min(height, top + size[1] * share))
    # Premultiplied, or the hidden colours of transparent pixels would bleed into the edges.
    fitted = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS, box=box)
    return rgba.unpremultiply(np.asarray(fitted, dtype=np.float32) / np.float32(255))


def picture_size(file: Path) -> Size:
    """Width and height of a picture file, upright; only its header is read.

    Raises:
        ImageError: the file is missing or not a picture.
    """
    with opened(file) as (stream, name), explained(name):
        image = open_picture(stream, name)
        width, height = image.size
        lies = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (height, width) if lies else (width, height)
