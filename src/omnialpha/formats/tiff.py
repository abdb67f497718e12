"""Layered TIFF: a page per layer, back to front, 16 bits per channel where a layer has more than 8.

GIMP opens the pages as layers, ImageMagick and OpenImageIO as a series of pictures. Each page has its name (PageName)
and its place (XPosition, YPosition), straight alpha and the profile of sRGB. TIFF knows neither opacity nor hidden
layers nor places left of or above the canvas: the first two are kept as JSON in the ImageDescription of the first
page, for us, and what lies left of or above the canvas is cut off, which is logged.
"""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from logging import getLogger
from typing import BinaryIO

import numpy as np

from omnialpha.extras import require
from omnialpha.formats import _checks, _manifest
from omnialpha.imaging.colour import SRGB_PROFILE
from omnialpha.imaging.decode import check_size, decode_pages, dots_per_inch, open_picture
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack

logger = getLogger(__name__)

_DESCRIPTION, _PAGE_NAME, _X_POSITION, _Y_POSITION = 270, 285, 286, 287  # tags
_X_RESOLUTION, _Y_RESOLUTION = 282, 283
_UNSTATED_DPI = 72.0  # positions are in inches, so a file that states none needs a resolution all the same
_CLASSIC_BYTES = 3 << 30  # more need BigTIFF, whose addresses have 64 bits


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as a TIFF, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
        MissingExtraError: The extra ``formats`` is not installed.
    """
    tifffile = require("tifffile", extra="formats")
    deep = any(layer.deep is not None for layer in stack)
    dpi = _manifest.dpi(stack) or (_UNSTATED_DPI, _UNSTATED_DPI)
    pages = LayerStack([_on_canvas(layer, path) for layer in _checks.at_least_one(stack)], stack.size, stack.metadata)
    size = sum(layer.image.width * layer.image.height * (8 if deep else 4) for layer in pages)
    with (
        atomic_write(path, overwrite=overwrite) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=size > _CLASSIC_BYTES) as file,
    ):
        for number, layer in enumerate(pages):
            file.write(
                np.rint(layer.array() * 65535).astype(np.uint16) if deep else np.asarray(layer.image),
                photometric="rgb",
                extrasamples=["unassalpha"],
                compression="zlib",
                resolution=dpi,
                resolutionunit="INCH",
                iccprofile=SRGB_PROFILE,
                description=json.dumps(_manifest.describe(pages)) if number == 0 else None,
                metadata=None,
                software=False,
                extratags=[
                    (_PAGE_NAME, "s", 0, layer.name.replace("\0", "").encode(errors="replace") + b"\0", True),
                    (_X_POSITION, "2I", 1, _inches(layer.offset[0], dpi[0]), True),
                    (_Y_POSITION, "2I", 1, _inches(layer.offset[1], dpi[1]), True),
                ],
                contiguous=False,
            )


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read a TIFF of any kind that ``imaging`` knows: a layer per page.

    Args:
        path: The file.

    Returns:
        The stack, the first page at the bottom.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(path) as (stream, name), explained(name):
        layers = _checks.collect(_layers(stream), name)
        image = open_picture(stream, name, pages=True)
        text = image.tag_v2.get(_DESCRIPTION)  # type: ignore[attr-defined]
        manifest = _manifest.ours(text, len(layers), name)
        if manifest is None:
            return LayerStack(layers, metadata=_manifest.with_dpi({}, dots_per_inch(image)))
        size = _manifest.size(manifest, name)
        check_size(size, name)
        for layer, entry in zip(layers, manifest["layers"], strict=True):
            for field, value in _manifest.fields(entry, name).items():
                setattr(layer, field, value)
        return LayerStack(layers, size, _manifest.metadata(manifest, name))


def _layers(stream: BinaryIO) -> Iterator[Layer]:
    """A layer per page, with what TIFF itself says about it."""
    for number, (pixels, tags) in enumerate(decode_pages(stream), start=1):
        name = str(tags.get(_PAGE_NAME, "")).strip("\0") or f"Page {number}"
        x = float(tags.get(_X_POSITION, 0)) * float(tags.get(_X_RESOLUTION, 1))
        y = float(tags.get(_Y_POSITION, 0)) * float(tags.get(_Y_RESOLUTION, 1))
        yield Layer.from_array(pixels, name, offset=(round(x), round(y)))


def _on_canvas(layer: Layer, path: str | os.PathLike[str]) -> Layer:
    """The layer without what lies left of or above the canvas; a transparent pixel when that is all of it."""
    x, y = layer.offset
    if x >= 0 and y >= 0:
        return layer
    logger.warning('%s: what layer "%s" has left of or above the canvas is cut off; .psd keeps it', path, layer.name)
    kept = layer.array()[max(-y, 0) :, max(-x, 0) :]
    array = kept if kept.size else np.zeros((1, 1, 4), np.float32)
    return Layer.from_array(
        array, layer.name, opacity=layer.opacity, visible=layer.visible, offset=(max(x, 0), max(y, 0))
    )


def _inches(pixels: int, dpi: float) -> tuple[int, int]:
    """A place on the canvas as TIFF wants it: numerator and denominator."""
    fraction = Fraction(pixels * 100, round(dpi * 100))
    return fraction.numerator, fraction.denominator
