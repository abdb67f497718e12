"""RGBA pictures: read and write files, pass between Pillow images and arrays.

Everywhere: straight alpha, sRGB. Arrays are ``float32`` in [0, 1], ``(H, W, 4)``; Pillow images are mode "RGBA".
``premultiply`` and ``unpremultiply`` are the only functions that touch the other kind of alpha.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from omnialpha.errors import ImageError, InputError
from omnialpha.imaging.decode import MAX_PIXELS, check_size, decode, dots_per_inch, open_picture
from omnialpha.imaging.files import Source, atomic_write, explained, opened

__all__ = [
    "MAX_PIXELS",
    "atomic_write",
    "check_size",
    "guide_channel",
    "premultiply",
    "read",
    "read_array",
    "read_dpi",
    "read_metadata",
    "save_png",
    "to_array",
    "to_pil",
    "unpremultiply",
]

_METADATA_KEY = "omnialpha"  # keyword of the PNG text chunk


def read(source: Source) -> Image.Image:
    """Read a picture with 8 bits per channel.

    Orientation and colour profile are applied and logged; 16-bit files are rounded to 8 bits.

    Args:
        source: Path or seekable binary file of a PNG, JPEG, WebP, AVIF, TIFF or BMP.

    Returns:
        An "RGBA" image, straight alpha, sRGB; opaque when the file has no alpha.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    pixels = decode(source)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / np.float32(257)).astype(np.uint8)
    return Image.fromarray(pixels)


def read_array(source: Source) -> np.ndarray:
    """Read a picture at the full precision of its file.

    Args:
        source: Path or seekable binary file of a PNG, JPEG, WebP, AVIF, TIFF or BMP, with 8 or 16 bits per channel.

    Returns:
        ``(H, W, 4)`` ``float32`` in [0, 1], straight alpha, sRGB.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    pixels = decode(source)
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def save_png(
    image: Image.Image,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    dpi: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a PNG atomically: the file is complete or absent, whatever happens meanwhile.

    Args:
        image: Image of any mode that PNG knows.
        path: Final file.
        metadata: Provenance, stored as JSON in a text chunk; ``read_metadata`` returns it.
        dpi: Resolution to state in the file, dots per inch across and down.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    text = PngInfo()
    if metadata is not None:
        text.add_itxt(_METADATA_KEY, json.dumps(dict(metadata), sort_keys=True))
    options = {} if dpi is None else {"dpi": dpi}
    with atomic_write(path, overwrite=overwrite) as temporary:
        image.save(temporary, format="PNG", pnginfo=text, **options)


def read_metadata(source: Source) -> dict[str, Any]:
    """Read the provenance that ``save_png`` stored.

    Args:
        source: Path or seekable binary file.

    Returns:
        The metadata, empty when the picture carries none.

    Raises:
        ImageError: The file is not a picture, or what it stores is damaged.
    """
    with opened(source) as (stream, name), explained(name):
        image = open_picture(stream, name)
        image.load()  # the text may come after the pixels
        metadata = json.loads(image.info.get(_METADATA_KEY, "{}"))
        if not isinstance(metadata, dict):
            raise ImageError(f"{name}: its metadata is not a JSON object; write the file again")
        return metadata


def read_dpi(source: Source) -> tuple[float, float] | None:
    """Read the resolution that a picture states.

    Args:
        source: Path or seekable binary file.

    Returns:
        Dots per inch across and down, or None when it states none.

    Raises:
        ImageError: The file is not a picture, or its header is damaged.
    """
    with opened(source) as (stream, name), explained(name):
        return dots_per_inch(open_picture(stream, name))


def to_pil(array: np.ndarray) -> Image.Image:
    """Round an array to an 8-bit image.

    Args:
        array: ``(H, W, 4)``, ``(H, W, 3)`` opaque, or ``(H, W)`` opaque grey; floats in [0, 1], which are clipped,
            or ``uint8``.

    Returns:
        An "RGBA" image.

    Raises:
        InputError: Another shape or type, or a value that is not a number.

    >>> to_pil(np.array([[0.5, 2.0]])).getpixel((1, 0))
    (255, 255, 255, 255)
    """
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise InputError(f"an image array is float in [0, 1] or uint8, not {array.dtype}; divide by its maximum")
        if not np.isfinite(array).all():
            raise InputError("an image array holds NaN or infinity; check what produced it")
        array = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(f"an image array has shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGBA")


def to_array(image: Image.Image) -> np.ndarray:
    """Convert an image to floats.

    Args:
        image: Image of any 8-bit mode.

    Returns:
        ``(H, W, 4)`` ``float32`` in [0, 1], straight alpha; opaque when the mode has no alpha.

    Raises:
        InputError: The image has more than 8 bits per channel, which Pillow would cut off.

    >>> to_array(Image.new("L", (1, 1), 51)).tolist()
    [[[0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 1.0]]]
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise InputError(
            f'an image of mode "{image.mode}" does not fit 8 bits; open the file with imaging.rgba.read_array'
        )
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / np.float32(255)


def guide_channel(image: Image.Image) -> Image.Image:
    """The one channel of a guide (alpha, trimap or mask), white on black.

    Args:
        image: The guide; one with transparency, such as a cut-out, is taken to mean its alpha channel.

    Returns:
        An image of mode "L".
    """
    alpha = image.convert("RGBA").getchannel("A")
    return alpha if alpha.getextrema() != (255, 255) else image.convert("L")


def premultiply(image: np.ndarray) -> np.ndarray:
    """Multiply colours by alpha.

    Args:
        image: ``(..., 4)`` floats in [0, 1], straight alpha, channels last.

    Returns:
        The same shape, premultiplied.
    """
    return np.concatenate([image[..., :3] * image[..., 3:], image[..., 3:]], axis=-1)


def unpremultiply(image: np.ndarray) -> np.ndarray:
    """Divide colours by alpha; where alpha is 0 colours become 0.

    Args:
        image: ``(..., 4)`` floats in [0, 1], premultiplied, channels last.

    Returns:
        The same shape, straight alpha, clipped to [0, 1] against rounding.
    """
    alpha = image[..., 3:]
    # The quotient of two numbers at the edge of float precision means nothing: such a pixel is transparent.
    visible = alpha > np.finfo(np.float32).tiny
    colours = np.divide(image[..., :3], alpha, out=np.zeros_like(image[..., :3]), where=visible)
    return np.concatenate([np.clip(colours, 0, 1), alpha], axis=-1)
