"""What the formats of one flat picture (PNG, WebP, AVIF) share: flattening with a note, reading as one layer."""

import io
import os
from collections.abc import Mapping
from logging import getLogger
from typing import Any

from PIL import Image

from omnialpha.formats import _manifest, _text
from omnialpha.imaging import rgba
from omnialpha.imaging.colour import SRGB_PROFILE
from omnialpha.imaging.decode import decode, dots_per_inch, open_picture
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack

logger = getLogger(__name__)

_NAME = "picture"  # of the layer: the file has no place for a name


def flatten(stack: LayerStack, path: str | os.PathLike[str]) -> Image.Image:
    """The one picture of a stack that such a file can hold; a single layer that fills the canvas stays as it is."""
    if len(stack) == 1:
        (layer,) = stack
        if layer.visible and layer.opacity == 1 and layer.offset == (0, 0) and layer.image.size == stack.size:
            return layer.image  # colours of transparent pixels included, which flattening sets to black
    logger.info("%s: holds one picture; the %d layers are flattened", path, len(stack))
    return stack.flatten()


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a PNG, to put inside another file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write(
    stack: LayerStack, path: str | os.PathLike[str], kind: str, options: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Write a flattened stack with its metadata, resolution and the profile of sRGB.

    Args:
        stack: What to write.
        path: Final file.
        kind: Pillow's name of a format that takes ``xmp``, ``exif`` and ``icc_profile``.
        options: Further options of Pillow's encoder.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    options = dict(options)
    if (dpi := _manifest.dpi(stack)) is not None:
        options["exif"] = exif = Image.Exif()
        exif[282], exif[283], exif[296] = dpi[0], dpi[1], 2  # resolution across and down, in inches
    if stack.metadata:
        options["xmp"] = _text.to_xmp(stack.metadata)
    picture = flatten(stack, path)
    with atomic_write(path, overwrite=overwrite) as temporary:
        picture.save(temporary, format=kind, icc_profile=SRGB_PROFILE, **options)


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read a picture of any kind that ``imaging`` knows as a stack of one layer.

    Args:
        path: The file.

    Returns:
        One layer, called "picture".

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(path) as (stream, name), explained(name):
        content = io.BytesIO(stream.read())
        content.name = name
        image = open_picture(content, name)
        if image.format == "PNG":
            metadata: Mapping[str, Any] = rgba.read_metadata(content)
        else:
            metadata = _text.from_xmp(image.info.get("xmp"), name)
        dpi = dots_per_inch(image)
        return LayerStack([Layer.from_array(decode(content), _NAME)], metadata=_manifest.with_dpi(metadata, dpi))
