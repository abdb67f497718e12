"""Photoshop documents: 8-bit RGB with one pixel layer per layer and the merged picture for programs that read no more.

Names, offsets, opacity (in steps of 1/255), visibility and pixels survive; ``LayerStack.metadata`` is kept as JSON in
the document's XMP packet. On reading, masks are applied, group visibility and opacity handed to the layers inside,
and what a ``Layer`` cannot hold (blend modes, effects, adjustments, clipping) is logged and left out.
"""

import json
import os
import warnings
from collections.abc import Iterator
from logging import getLogger
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image
from psd_tools import PSDDecompressionWarning, PSDImage
from psd_tools.api.layers import Layer as PSDLayer
from psd_tools.constants import BlendMode, ColorMode, Compression, Resource
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, ImageResources

from omnialpha.errors import OutputError
from omnialpha.formats import _checks
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import check_size, premultiply, to_array

logger = getLogger(__name__)

_LONGEST_SIDE = 30_000  # of a PSD; Photoshop's larger PSB is another format
_LONGEST_NAME = 255
_MAX_ALLOC_BYTES = 4 << 30  # what psd-tools may take for one picture, at most
_NAMESPACE = "https://omnialpha.invalid/ns/1.0/"  # a name, not an address

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:omnialpha="{namespace}">
   <omnialpha:metadata>{json}</omnialpha:metadata>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as a PSD, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The canvas or a layer is too large for a PSD, the file exists, or it cannot be written.
    """
    sides = [side for size in (stack.size, *(layer.image.size for layer in stack)) for side in size]
    if max(sides) > _LONGEST_SIDE:
        raise OutputError(f"{path}: a PSD is at most {_LONGEST_SIDE} pixels wide and high; save as .ora or a folder")
    record = PSD(
        header=FileHeader(
            version=1, width=stack.size[0], height=stack.size[1], depth=8, channels=4, color_mode=ColorMode.RGB
        ),
        image_resources=ImageResources.new(),
        image_data=ImageData(compression=Compression.RLE),
    )
    if stack.metadata:
        record.image_resources[Resource.XMP_METADATA] = ImageResource(
            key=Resource.XMP_METADATA, data=_to_xmp(stack.metadata)
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
        if Resource.ICC_PROFILE in document.image_resources:
            logger.info("%s: colours are converted from its profile to sRGB", name)
        layers = _checks.collect(_layers(document, True, 1.0, name), name)
        if not len(document) and (merged := document.topil()) is not None:
            layers = [Layer(merged.convert("RGBA"), "Background")]
        return LayerStack(layers, document.size, _metadata(document, name))


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


def _to_xmp(metadata: dict[str, Any]) -> bytes:
    """Adobe's metadata packet with one property of ours, the JSON."""
    return _XMP.format(namespace=_NAMESPACE, json=escape(json.dumps(metadata))).encode()


def _metadata(document: PSDImage, name: str) -> dict[str, Any]:
    packet = document.image_resources.get_data(Resource.XMP_METADATA)
    if not packet or _NAMESPACE.encode() not in packet:  # another program's notes
        return {}
    text = ElementTree.fromstring(packet).findtext(f".//{{{_NAMESPACE}}}metadata", "{}")
    return dict(_checks.mapping(json.loads(text), "metadata", name))
