"""Decode the pictures of a record: alpha mattes, masks, cut-outs and layers as arrays."""

import logging

import numpy as np
from PIL import Image

from omnialpha.data.sources.parquet import open_cell
from omnialpha.data.sources.record import Cell, Picture, Record
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging.decode import decode
from omnialpha.imaging.files import Source
from omnialpha.imaging.refine import foreground_colours
from omnialpha.imaging.rgba import read_array, to_array, to_pil

logger = logging.getLogger(__name__)


def stream(picture: Picture) -> Source:
    """What `imaging.rgba.read` and its like accept, for a file as well as for a picture inside a parquet file.

    Args:
        picture: Where it is.

    Raises:
        ImageError: The parquet file holds no such picture.
    """
    return open_cell(picture) if isinstance(picture, Cell) else picture


def read_alpha(picture: Picture) -> tuple[np.ndarray, str]:
    """Read an alpha matte, a trimap or a mask; 16 bits stay 16 bits.

    Args:
        picture: Where it is. Of several channels the first counts, as AIM-500's own evaluation does.

    Returns:
        ``(H, W)`` ``float32`` in [0, 1], and what had to be converted, which is logged too ("" when nothing was).

    Raises:
        ImageError: It cannot be read.
    """
    pixels = decode(stream(picture))
    largest = np.iinfo(pixels.dtype).max
    notes = []
    if (pixels[..., 1:3] != pixels[..., :1]).any():
        notes.append("its channels differ, the first one is used")
    if (pixels[..., 3] != largest).any():
        notes.append("it is transparent in places, which is ignored")
    note = "; ".join(notes)
    if note:
        logger.warning("%s: %s", picture, note)
    return pixels[..., 0].astype(np.float32) / np.float32(largest), note


def read_mask(record: Record) -> np.ndarray:
    """Read the object mask of a record.

    Args:
        record: With a mask.

    Returns:
        ``(H, W)`` ``bool``, True on the object, whatever the polarity of the file.

    Raises:
        InputError: The record has none.
        ImageError: It cannot be read.
    """
    if record.mask is None:
        raise InputError(f"{record.source}/{record.id}: has no object mask; take a data set for object removal")
    alpha, _ = read_alpha(record.mask)
    return (alpha < 0.5) if record.mask_inverted else (alpha >= 0.5)


def read_cutouts(record: Record, *, decontaminate: bool = True) -> list[tuple[np.ndarray, str]]:
    """Read the foregrounds of a record as RGBA.

    RGB and alpha are joined. Where there is only the composite, its colours have the background mixed in along soft
    edges: they are estimated anew.

    Args:
        record: With a foreground, with a composite and its alpha, or with layers.
        decontaminate: False keeps the composite's colours.

    Returns:
        One ``(H, W, 4)`` ``float32`` array in [0, 1] with straight alpha for each foreground, with its caption ("" when
        there is none): the foreground, or all layers above the lowest, from back to front, in their own size.

    Raises:
        InputError: The record has no foreground.
        ImageError: A picture cannot be read, or colours and alpha differ in size.
        MissingExtraError: Estimating colours needs the extra "baselines".
    """
    if record.layers:
        captions = record.captions or ("",) * (len(record.layers) - 1)
        return [
            (read_array(stream(layer)), caption) for layer, caption in zip(record.layers[1:], captions, strict=True)
        ]
    caption = record.captions[0] if record.captions else ""
    colours = record.foreground or record.composite
    if colours is None or (record.foreground is None and record.alpha is None):
        raise InputError(f"{record.source}/{record.id}: has no foreground; take a data set with cut-outs or mattes")
    image = read_array(stream(colours))
    if record.alpha is None:
        return [(image, caption)]
    alpha, _ = read_alpha(record.alpha)
    same_size((colours, image), (record.alpha, alpha))
    estimate = decontaminate and record.foreground is None
    rgb = foreground_colours(image[..., :3], alpha) if estimate else image[..., :3]
    return [(np.dstack([rgb, alpha]), caption)]


def read_layers(record: Record) -> list[np.ndarray]:
    """Read all layers at the size of the canvas.

    Args:
        record: With layers; the lowest one fills the canvas.

    Returns:
        ``(H, W, 4)`` ``float32`` in [0, 1], straight alpha, from back to front.

    Raises:
        InputError: The record has no layers.
        ImageError: A layer cannot be read, or fits neither canvas nor box.
    """
    if not record.layers:
        raise InputError(f"{record.source}/{record.id}: has no layers; take a data set of layered pictures")
    arrays = [read_array(stream(layer)) for layer in record.layers]
    boxes = record.boxes or (None,) * len(arrays)
    placed = [
        array if box is None else _place(array, box, arrays[0].shape) for array, box in zip(arrays, boxes, strict=True)
    ]
    same_size(*zip(record.layers, placed, strict=True))
    return placed


def same_size(*found: tuple[Picture, np.ndarray]) -> None:
    """Refuse pictures of one record that differ in size.

    Args:
        found: Where each is and its pixels, ``(H, W)`` or ``(H, W, C)``.

    Raises:
        ImageError: Naming the first that differs.
    """
    (first, pixels), *others = found
    height, width = pixels.shape[:2]
    for picture, other in others:
        if other.shape[:2] != (height, width):
            raise ImageError(
                f"{picture}: has {other.shape[1]}×{other.shape[0]} pixels, but {first} has {width}×{height}; "
                "the two belong together, download them again"
            )


def _place(layer: np.ndarray, box: tuple[int, int, int, int], canvas: tuple[int, ...]) -> np.ndarray:
    """Lay a cropped layer on an empty canvas; one whose size differs from its box is scaled to it."""
    left, top, right, bottom = box
    if layer.shape[:2] != (bottom - top, right - left):
        # Pillow resizes RGBA premultiplied: no colour bleeding.
        scaled = to_pil(layer).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        layer = to_array(scaled)
    result = np.zeros(canvas, np.float32)
    inside = result[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    inside[:] = layer[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    return result
