"""A picture file of any common kind to one array: RGBA, straight alpha, sRGB, upright, 8 or 16 bit.

Pillow decodes; what it leaves to its callers is done here: 16-bit colour (which Pillow cuts to 8 bits), tRNS of 16-bit
PNGs, ICC profiles, EXIF orientation, size limits. Whatever changes the colours or the orientation is logged.
"""

import io
import itertools
import logging
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from omnialpha.errors import ImageError
from omnialpha.imaging.colour import is_srgb
from omnialpha.imaging.files import Source, explained, opened

logger = logging.getLogger(__name__)

MAX_PIXELS = 1 << 26
"""Largest picture that is read: 67 megapixels (8192 × 8192), 256 MiB once decoded. A guard against crafted files."""

# GIF is not promised: it is opened so that an animation is refused for being one, not for being unknown.
_KINDS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # TIFF tags


def decode(source: Source) -> np.ndarray:
    """Read a picture.

    Args:
        source: Path or seekable binary file of a PNG, JPEG, WebP, AVIF, TIFF or BMP.

    Returns:
        ``(H, W, 4)``, ``uint8`` or, for a file with 16 bits per channel, ``uint16``; straight alpha, sRGB.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(source) as (stream, name), explained(name):
        return _decoded(open_picture(stream, name), stream, name)


def decode_pages(source: Source) -> Iterator[tuple[np.ndarray, dict[int, Any]]]:
    """Read the pages of a TIFF, one after the other.

    Args:
        source: Path or seekable binary file.

    Yields:
        Pixels as ``decode`` returns them, and the page's TIFF tags (number → value).

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(source) as (stream, name), explained(name):
        image: Any = open_picture(stream, name, pages=True)
        if image.format != "TIFF":
            raise ImageError(f"{name}: is a {image.format}, not a TIFF; give it the suffix of its content")
        for number in itertools.count():
            try:
                image.seek(number)
            except EOFError:
                return
            check_size(image.size, name)
            tags = dict(image.tag_v2)
            yield _decoded(image, stream, name), tags


def dots_per_inch(image: Image.Image) -> tuple[float, float] | None:
    """The resolution that a picture's header states, across and down, or None where it states none that makes sense."""
    found = image.info.get("dpi")
    if found is None and image.format in ("WEBP", "AVIF"):  # have it in their EXIF data, where Pillow does not look
        exif = image.getexif()
        scale = 2.54 if exif.get(_RESOLUTION_UNIT) == 3 else 1  # 3: per centimetre
        found = [float(exif.get(tag, 0)) * scale for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    # Two decimals: PNG counts whole pixels per metre, and 300 dpi would come back as 299.9994.
    rounded = [round(float(value), 2) for value in found or ()]
    if len(rounded) != 2 or not all(math.isfinite(value) and 1 < value < 100_000 for value in rounded):
        return None
    return rounded[0], rounded[1]


def check_size(size: tuple[int, int], name: str) -> None:
    """Refuse a picture without pixels or with too many, before any memory is taken for it.

    Args:
        size: Width and height in pixels.
        name: The file, for the message.

    Raises:
        ImageError: ``size`` is empty or holds more than ``MAX_PIXELS`` pixels.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width}×{height}); export it again")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: has {width}×{height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million that are read; "
            "make it smaller first"
        )


def open_picture(stream: BinaryIO, name: str, *, pages: bool = False) -> ImageFile.ImageFile:
    """Read the header only, and refuse what is not one picture of a sensible size.

    Args:
        stream: Seekable binary file.
        name: The file, for the message.
        pages: Allow several pictures; the image is the first one.

    Returns:
        Pillow's image, not yet decoded.

    Raises:
        ImageError: Not a picture of a kind that is read, too large, or several pictures in one file.
    """
    stream.seek(0)
    try:
        image = Image.open(stream, formats=_KINDS)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: is not a readable PNG, JPEG, WebP, AVIF, TIFF or BMP picture; check that it is complete, "
            "or convert it to PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: has more than the {MAX_PIXELS / 1e6:.0f} million pixels that are read; make it smaller first"
        ) from error
    check_size(image.size, name)
    # The further pictures of an MPO are previews and depth maps of the first one.
    if not pages and image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(f"{name}: has several frames or pages; save the one you want as a PNG first")
    return image


def _decoded(image: ImageFile.ImageFile, stream: BinaryIO, name: str) -> np.ndarray:
    """Pixels of the picture, or of the page, that ``image`` stands at."""
    if image.format == "TIFF" and (orientation := image.tag_v2.get(_ORIENTATION, 1)) != 1:  # type: ignore[attr-defined]
        logger.info("%s: turned upright (orientation %s)", name, orientation)  # by Pillow, while decoding
    if _is_deep(image):
        pixels = _read_deep(image, stream, name)
    elif image.mode in _PLAIN_MODES:
        image.load()
        pixels = np.array(_to_srgb(image, name))
    else:
        raise ImageError(f'{name}: has the colour mode "{image.mode}"; save it as 8 or 16 bit RGB or grey first')
    return _upright(pixels, image, name)


def _is_deep(image: ImageFile.ImageFile) -> bool:
    # Pillow would read a 16-bit TIFF with separate planes as if it had 8 bits: such a file shows only in its tags.
    bits = image.tag_v2.get(_BITS, ()) if image.format == "TIFF" else ()  # type: ignore[attr-defined]
    return 16 in bits or image.mode.startswith("I;16") or ";16" in _raw_mode(image)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How Pillow will unpack the samples, e.g. ``"RGBA;16B"``: the only place that tells the depth of the file."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _read_deep(image: ImageFile.ImageFile, stream: BinaryIO, name: str) -> np.ndarray:
    """Read 16 bits per channel.

    Pillow has no 16-bit colour images: its unpackers keep the high byte of each sample. Asked to unpack with the byte
    order reversed, the same unpackers keep the low byte, and two passes give all 16 bits at the speed of C.
    """
    if image.mode.startswith("I;16"):
        pixels = _grey_to_rgba(np.asarray(image).astype(np.uint16))
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]  # white is 0
            pixels[..., :3] = 65535 - pixels[..., :3]
    else:
        pixels = _read_deep_colour(image, stream, name)
    transparent = image.info.get("transparency")
    if transparent is not None:
        pixels[..., 3] = np.where((pixels[..., :3] == np.uint16(transparent)).all(axis=-1), 0, 65535)
    if _needs_conversion(image, name):
        logger.info("%s: colours reach sRGB with 8 bits of precision; alpha keeps 16", name)
        eight_bit = Image.fromarray(np.rint(pixels[..., :3] / 257).astype(np.uint8))
        eight_bit.info["icc_profile"] = image.info["icc_profile"]
        pixels[..., :3] = np.asarray(_to_srgb(eight_bit, name), np.uint16)[..., :3] * 257
    return pixels


def _read_deep_colour(image: ImageFile.ImageFile, stream: BinaryIO, name: str) -> np.ndarray:
    order, raw_mode, page = image.mode, _raw_mode(image), image.tell()
    if raw_mode == "LA;16B":  # four bytes per pixel, so they fit an 8-bit RGBA image as they are
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(_unpack(stream, "RGBA", page), -1, 0).astype(np.uint16)
        pixels = _grey_to_rgba(grey_high << 8 | grey_low)
        pixels[..., 3] = alpha_high << 8 | alpha_low
        return pixels
    channels, _, ending = raw_mode.partition(";")
    planar = image.format == "TIFF" and image.tag_v2.get(_PLANAR, 1) != 1  # type: ignore[attr-defined]
    if channels not in ("RGB", "RGBA", "RGBX", "RGBa") or planar:
        raise ImageError(f'{name}: has 16-bit samples of the kind "{raw_mode}"; save it as 16 bit RGB, RGBA or grey')
    native = "16L" if np.little_endian else "16B"
    high = native if ending == "16N" else ending
    low = "16B" if high == "16L" else "16L"
    # "RGBa" (premultiplied) would be divided byte by byte: it is unpacked as if straight, and divided below.
    kind = channels.replace("a", "A")
    high_bytes, low_bytes = (_unpack(stream, f"{kind};{byte}", page).astype(np.uint16) for byte in (high, low))
    samples = high_bytes << 8 | low_bytes
    pixels = np.full((*samples.shape[:2], 4), 65535, np.uint16)
    if order == "RGBA":
        pixels[:] = samples
    else:
        pixels[..., :3] = samples[..., :3]
    if channels == "RGBa":
        alpha = np.maximum(pixels[..., 3:].astype(np.float64), 1)
        pixels[..., :3] = np.rint(np.minimum(pixels[..., :3] / alpha, 1) * 65535)
    return pixels


def _unpack(stream: BinaryIO, raw_mode: str, page: int) -> np.ndarray:
    """Decode a page of the file once more, with another unpacker."""
    stream.seek(0)
    image = Image.open(stream, formats=_KINDS)
    image.seek(page)
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    return np.array(image)


def _grey_to_rgba(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey, grey, np.full_like(grey, 65535)], axis=-1)


def _needs_conversion(image: Image.Image, name: str) -> bool:
    """Whether the picture carries a usable ICC profile of another colour space than sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        if image.mode == "CMYK":
            logger.warning("%s: CMYK without a colour profile; converted by formula, colours are approximate", name)
        return False
    try:
        opened_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened_profile.profile.xcolor_space
    except (OSError, ImageCms.PyCMSError) as error:
        logger.warning("%s: its colour profile is damaged (%s); colours are taken as sRGB", name, error)
        return False
    grey, cmyk = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16"), image.mode == "CMYK"
    if space.strip() != ("CMYK" if cmyk else "RGB") and not (grey and space.strip() == "GRAY"):
        logger.warning("%s: its colour profile is for %s, not for %s; ignored", name, space.strip(), image.mode)
        return False
    return not is_srgb(profile)


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    """An 8-bit image of any mode as straight RGBA in sRGB."""
    rgba = image.convert("RGBA")
    if not _needs_conversion(image, name):
        return rgba
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    mode = {"GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip(), "RGB")
    try:
        # As image editors do by default: colours stay what they are, and the darkest ink becomes black.
        colours = ImageCms.profileToProfile(
            image if mode == "CMYK" else rgba.convert(mode),
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError as error:
        logger.warning("%s: its colour profile cannot be applied (%s); colours are taken as sRGB", name, error)
        return rgba
    assert colours is not None  # None is for in-place conversion
    logger.info('%s: converted from "%s" to sRGB', name, ImageCms.getProfileDescription(profile).strip())
    colours.putalpha(rgba.getchannel("A"))
    return colours


def _upright(pixels: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    """Apply the EXIF orientation."""
    if image.format == "TIFF":  # done
        return pixels
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # a photograph is worth more than its notes, which break in as many ways as pixels do
        logger.warning("%s: its EXIF data is damaged (%s); orientation not applied", name, error)
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in range(2, 9):
        logger.info("%s: turned upright (orientation %d)", name, orientation)
    return np.ascontiguousarray(pixels)
