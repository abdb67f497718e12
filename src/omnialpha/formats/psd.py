"""Photoshop documents: 8-bit sRGB with one pixel layer per layer and the merged picture for programs that read no more.

Names, offsets, opacity (in steps of 1/255), visibility, pixels and resolution survive; ``LayerStack.metadata`` is kept
as JSON in the document's XMP packet. On reading, masks are applied, group visibility and opacity handed to the layers
inside, and what a ``Layer`` cannot hold (blend modes, effects, adjustments, clipping) is logged and left out.
"""

import os
import warnings
from collections.abc import Iterator
from logging import getLogger
from typing import Any

import numpy as np
from PIL import Image
from psd_tools import PSDDecompressionWarning, PSDImage
from psd_tools.api.layers import Layer as PSDLayer
from psd_tools.constants import BlendMode, ColorMode, Compression, Resource
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, ImageResources, ResoulutionInfo

from omnialpha.errors import OutputError
from omnialpha.formats import _checks, _manifest, _text
from omnialpha.imaging.colour import SRGB_PROFILE, is_srgb
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import check_size, premultiply, to_array

logger = getLogger(__name__)

_LONGEST_SIDES = {1: 30_000, 2: 300_000}  # by the version in the header
_KINDS = {1: "PSD", 2: "PSB"}
_LONGEST_NAME = 255
_FIXED_POINT = 1 << 16  # resolutions are in units of 1/65536 dpi
_MAX_ALLOC_BYTES = 4 << 30  # what psd-tools may take for one picture, at most


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as a PSD, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The canvas or a layer is too large for a PSD, the file exists, or it cannot be written.
    """
    write_version(1, stack, path, overwrite=overwrite)


def write_version(version: int, stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a PSD (version 1) or its larger kin, a PSB (version 2); see ``write``."""
    sides = [side for size in (stack.size, *(layer.image.size for layer in stack)) for side in size]
    if max(sides) > _LONGEST_SIDES[version]:
        raise OutputError(
            f"{path}: a {_KINDS[version]} is at most {_LONGEST_SIDES[version]} pixels wide and high; "
            f"save as {'.psb, ' if version == 1 else ''}.ora or a folder"
        )
    record = PSD(
        header=FileHeader(
            version=version, width=stack.size[0], height=stack.size[1], depth=8, channels=4, color_mode=ColorMode.RGB
        ),
        image_resources=_resources(stack),
        image_data=ImageData(compression=Compression.RLE),
    )
    document = PSDImage(record)
    for number, layer in enumerate(stack, start=1):
        # Not create_pixel_layer: that turns alpha into a layer mask in some documents.
        created = document.create_pixel_layer_from_array(
            np.asarray(layer.image), top=layer.offset[1], left=layer.offset[0], opacity=round(layer.opacity * 255)
        )
        # Named here, since creating takes ASCII names only; GIMP complains about layers without a name.
        created.name = layer.name[:_LONGEST_NAME] or f"Layer {number}"
        created.visible = layer.visible
    information = record.layer_and_mask_information.layer_info
    if information is not None:
        # Negative: the fourth channel of the merged picture is its transparency and not a channel of its own.
        information.layer_count = -len(stack)
    record.image_data.set_data(_merged(stack), record.header)
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        # Not document.save: that renders the merged picture anew, with the optional compositor of psd-tools.
        record.write(stream)


def _resources(stack: LayerStack) -> ImageResources:
    """What the document says about all of its layers."""
    resources = ImageResources.new()
    resources[Resource.ICC_PROFILE] = ImageResource(key=Resource.ICC_PROFILE, data=SRGB_PROFILE)
    if stack.metadata:
        resources[Resource.XMP_METADATA] = ImageResource(key=Resource.XMP_METADATA, data=_text.to_xmp(stack.metadata))
    if (dpi := _manifest.dpi(stack)) is not None:
        across, down = (round(value * _FIXED_POINT) for value in dpi)
        # The ones: dots per inch, and inches as the unit that rulers show.
        resources[Resource.RESOLUTION_INFO] = ImageResource(
            key=Resource.RESOLUTION_INFO,
            data=ResoulutionInfo(across, 1, 1, down, 1, 1),  # type: ignore[arg-type]  # a record, as psd-tools reads it
        )
    return resources


def _merged(stack: LayerStack) -> list[bytes]:
    """Planes of the merged picture: laid over white, as Photoshop stores it, and its alpha."""
    flat = to_array(stack.flatten())
    over_white = premultiply(flat)[..., :3] + (1 - flat[..., 3:])
    planes = np.rint(255 * np.concatenate([over_white, flat[..., 3:]], axis=-1)).astype(np.uint8)
    return [planes[..., channel].tobytes() for channel in range(4)]


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read a PSD or PSB of any colour mode that Pillow can convert.

    Args:
        path: The file.

    Returns:
        The stack, back to front; one layer when the document has only its merged picture.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(path) as (stream, name), explained(name):
        # Where it cannot decode a channel psd-tools warns and returns black.
        warnings.simplefilter("error", PSDDecompressionWarning)
        document = PSDImage.open(stream, max_alloc_bytes=_MAX_ALLOC_BYTES)
        check_size(document.size, name)
        profile = document.image_resources.get_data(Resource.ICC_PROFILE)
        if profile and is_srgb(profile):
            del document.image_resources[Resource.ICC_PROFILE]  # psd-tools would convert, and round once more
        elif profile:
            logger.info("%s: colours are converted from its profile to sRGB", name)
        layers = _checks.collect(_layers(document, True, 1.0, name), name)
        if not len(document) and (merged := document.topil()) is not None:
            layers = [Layer(merged.convert("RGBA"), "Background")]
        metadata = _text.from_xmp(document.image_resources.get_data(Resource.XMP_METADATA), name)
        return LayerStack(layers, document.size, _manifest.with_dpi(metadata, _dpi(document)))


def _dpi(document: PSDImage) -> tuple[float, float] | None:
    """The resolution that the document states."""
    stated = document.image_resources.get_data(Resource.RESOLUTION_INFO)
    if not isinstance(stated, ResoulutionInfo) or not (stated.horizontal and stated.vertical):
        return None
    return round(stated.horizontal / _FIXED_POINT, 2), round(stated.vertical / _FIXED_POINT, 2)


def _layers(group: Any, visible: bool, opacity: float, name: str) -> Iterator[Layer]:
    """Pixels of a document or group, bottom first; groups are opened and hand down what they do to their layers."""
    for item in group:
        shown, strength = visible and item.visible, opacity * item.opacity / 255
        if item.is_group():
            if item.opacity < 255 and len(item) > 1:
                logger.warning('%s: the opacity of group "%s" is given to each of its layers', name, item.name)
            yield from _layers(item, shown, strength, name)
            continue
        if item.blend_mode not in (BlendMode.NORMAL, BlendMode.PASS_THROUGH):
            logger.warning('%s: layer "%s" blends as "%s"; read as normal', name, item.name, item.blend_mode.name)
        if item.clipping or item.has_effects():
            logger.warning('%s: layer "%s" is clipped or has effects; read without', name, item.name)
        if item.width < 1 or item.height < 1:
            logger.warning('%s: layer "%s" (%s) has no pixels; left out', name, item.name, item.kind)
            continue
        check_size(item.size, name)
        pixels = item.topil()
        if pixels is None:
            logger.warning('%s: layer "%s" (%s) has no pixels; left out', name, item.name, item.kind)
            continue
        yield Layer(_masked(pixels.convert("RGBA"), item), item.name, strength, shown, item.offset)


def _masked(image: Image.Image, item: PSDLayer) -> Image.Image:
    """Multiply a layer's mask, if there is one in use, into its alpha."""
    mask = item.mask
    if mask is None or mask.disabled:
        return image
    factor = Image.new("L", image.size, mask.background_color)
    if (pixels := mask.topil()) is not None:
        factor.paste(pixels.convert("L"), (mask.left - item.left, mask.top - item.top))
    alpha = np.asarray(image.getchannel("A"), np.float32) * np.asarray(factor, np.float32) / 255
    image.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8)))
    return image
