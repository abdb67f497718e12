"""OpenRaster, the open layered format of Krita, GIMP and MyPaint: a ZIP of PNGs and one XML file.

Written and read by the baseline of the OpenRaster specification, version 0.0.6: ``mimetype`` first and stored,
``stack.xml`` with the topmost layer first, ``mergedimage.png``, ``Thumbnails/thumbnail.png`` of at most 256 pixels.
``LayerStack.metadata`` is kept in ``omnialpha/metadata.json``, which other programs ignore.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from logging import getLogger
from typing import Any
from xml.etree import ElementTree

from omnialpha.errors import ImageError
from omnialpha.formats import _checks, _manifest, _text
from omnialpha.formats._flat import png_bytes
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack

logger = getLogger(__name__)

_MIME_TYPE = b"image/openraster"
_METADATA = "omnialpha/metadata.json"
_THUMBNAIL = (256, 256)
_NORMAL = "svg:src-over"
_UNSTATED_DPI = 72  # the specification's default, which every program writes that knows no better
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp: the same stack gives the same bytes
_MAX_TEXT_BYTES = 16 << 20  # of stack.xml and the metadata; more is no description of layers
_MAX_PNG_BYTES = 8 * rgba.MAX_PIXELS + (1 << 20)  # the largest picture at 16 bits per channel, uncompressed


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as an ORA, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    dpi = _manifest.dpi(stack)
    across, down = (_UNSTATED_DPI, _UNSTATED_DPI) if dpi is None else (round(dpi[0]), round(dpi[1]))
    size = {"w": str(stack.size[0]), "h": str(stack.size[1])}
    image = ElementTree.Element("image", {"version": "0.0.6", **size, "xres": str(across), "yres": str(down)})
    root = ElementTree.SubElement(image, "stack")
    for index, layer in reversed(list(enumerate(stack))):
        ElementTree.SubElement(
            root,
            "layer",
            {
                "name": _text.for_xml(layer.name, index + 1),
                "src": f"data/layer{index:03d}.png",
                "x": str(layer.offset[0]),
                "y": str(layer.offset[1]),
                "opacity": str(layer.opacity),
                "visibility": "visible" if layer.visible else "hidden",
                "composite-op": _NORMAL,
            },
        )
    merged = stack.flatten()
    thumbnail = merged.copy()
    thumbnail.thumbnail(_THUMBNAIL)
    with atomic_write(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _add(archive, "mimetype", _MIME_TYPE)
        xml: bytes = ElementTree.tostring(image, encoding="UTF-8", xml_declaration=True)
        _add(archive, "stack.xml", xml, compress=True)
        for index, layer in enumerate(stack):
            _add(archive, f"data/layer{index:03d}.png", png_bytes(layer.image))
        _add(archive, "mergedimage.png", png_bytes(merged))
        _add(archive, "Thumbnails/thumbnail.png", png_bytes(thumbnail))
        if stack.metadata:
            _add(archive, _METADATA, json.dumps(stack.metadata).encode(), compress=True)


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read an ORA.

    Groups are opened: their visibility, opacity and place are handed to the layers inside. Composite operations other
    than normal are logged and read as normal.

    Args:
        path: The file.

    Returns:
        The stack, back to front.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    with opened(path) as (stream, name), explained(name):
        try:
            archive = zipfile.ZipFile(stream)
        except zipfile.BadZipFile as error:
            raise ImageError(f"{name}: is not a complete OpenRaster file; save it again as .ora") from error
        if _content(archive, "mimetype", 256, name).strip() != _MIME_TYPE:
            raise ImageError(f"{name}: is a ZIP file, but not OpenRaster; save it as .ora in a layer editor")
        image = ElementTree.fromstring(_content(archive, "stack.xml", _MAX_TEXT_BYTES, name))
        root = image.find("stack")
        if root is None:
            raise ImageError(f"{name}: its stack.xml lists no layers; save it again as .ora")
        size = _checks.whole_number(image.get("w"), "width", name), _checks.whole_number(image.get("h"), "height", name)
        rgba.check_size(size, name)
        layers = _checks.collect(_layers(archive, root, (0, 0), 1.0, True, name), name)
        metadata: Any = {}
        if _METADATA in archive.namelist():
            metadata = json.loads(_content(archive, _METADATA, _MAX_TEXT_BYTES, name))
        metadata = _manifest.with_dpi(_checks.mapping(metadata, "metadata", name), _dpi(image, name))
        return LayerStack(layers, size, metadata)


def _dpi(image: ElementTree.Element, name: str) -> tuple[float, float] | None:
    """The resolution that the file states; None for the default."""
    default = str(_UNSTATED_DPI)
    across, down = (_checks.whole_number(image.get(key, default), "resolution", name) for key in ("xres", "yres"))
    return None if across == down == _UNSTATED_DPI or min(across, down) < 1 else (float(across), float(down))


def _layers(
    archive: zipfile.ZipFile,
    group: ElementTree.Element,
    origin: tuple[int, int],
    opacity: float,
    visible: bool,
    name: str,
) -> Iterator[Layer]:
    """Layers of a group, bottom first. Before version 0.0.6 groups had a place too, which their layers start from."""
    for item in reversed(group):
        offset = (
            origin[0] + _checks.whole_number(item.get("x", "0"), "offset", name),
            origin[1] + _checks.whole_number(item.get("y", "0"), "offset", name),
        )
        strength = opacity * _checks.opacity(item.get("opacity", "1"), name)
        shown = visible and item.get("visibility", "visible") == "visible"
        label = item.get("name", "")
        if item.get("composite-op", _NORMAL) != _NORMAL:
            logger.warning('%s: "%s" is composed as "%s"; read as normal', name, label, item.get("composite-op"))
        if item.tag == "stack":
            if item.get("opacity", "1") != "1" and len(item) > 1:
                logger.warning('%s: the opacity of group "%s" is given to each of its layers', name, label)
            yield from _layers(archive, item, offset, strength, shown, name)
        elif item.tag == "layer":
            source = item.get("src", "")
            content = io.BytesIO(_content(archive, source, _MAX_PNG_BYTES, name))
            content.name = f"{name} ({source})"
            yield Layer(rgba.read(content), label, strength, shown, offset)
        else:
            logger.warning('%s: "%s" is a %s, not a layer; left out', name, label, item.tag)


def _content(archive: zipfile.ZipFile, member: str, limit: int, name: str) -> bytes:
    """A member of the archive, which may claim one size and unpack to another: never more than ``limit`` bytes."""
    try:
        with archive.open(member) as stream:
            content = stream.read(limit + 1)
    except KeyError as error:
        raise ImageError(f'{name}: lacks "{member}"; save it again as .ora') from error
    if len(content) > limit:
        raise ImageError(f'{name}: "{member}" unpacks to more than {limit} bytes; save it again as .ora')
    return content


def _add(archive: zipfile.ZipFile, member: str, content: bytes, compress: bool = False) -> None:
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED  # PNGs are compressed already
    archive.writestr(zipfile.ZipInfo(member, _EPOCH), content, kind)
