"""SVG: each layer a group with its picture embedded as PNG, shown by Inkscape as a layer with its name.

Place, opacity and visibility are SVG's own; metadata is JSON in ``<metadata>``. Read are such files, also after a pass
through Inkscape; an SVG that draws shapes is refused.
"""

import base64
import binascii
import io
import json
import os
from collections.abc import Iterator
from logging import getLogger
from typing import BinaryIO
from xml.etree import ElementTree

from omnialpha.errors import ImageError
from omnialpha.formats import _checks, _manifest, _text
from omnialpha.formats._flat import png_bytes
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack

logger = getLogger(__name__)

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_INKSCAPE = "http://www.inkscape.org/namespaces/inkscape"
_GROUP, _IMAGE, _METADATA = f"{{{_SVG}}}g", f"{{{_SVG}}}image", f"{{{_text.NAMESPACE}}}metadata"
_LABEL, _HREF = f"{{{_INKSCAPE}}}label", f"{{{_XLINK}}}href"
_DRAWN = {
    f"{{{_SVG}}}{tag}" for tag in ("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "use")
}
_PIXELS_PER_INCH = 96  # by the definition of CSS
_MAX_BYTES = 1 << 30


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as an SVG, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    width, height = stack.size
    across, down = _manifest.dpi(stack) or (_PIXELS_PER_INCH, _PIXELS_PER_INCH)
    root = ElementTree.Element(
        f"{{{_SVG}}}svg",
        {"version": "1.1", "width": f"{width / across:.6f}in", "height": f"{height / down:.6f}in"}
        | {"viewBox": f"0 0 {width} {height}", "preserveAspectRatio": "none"},
    )
    note = ElementTree.SubElement(ElementTree.SubElement(root, f"{{{_SVG}}}metadata"), _METADATA)
    note.text = json.dumps(stack.metadata)
    for number, layer in enumerate(stack, start=1):
        attributes = {"id": f"layer{number}", _LABEL: _text.for_xml(layer.name, number)}
        attributes |= {f"{{{_INKSCAPE}}}groupmode": "layer", "opacity": str(layer.opacity)}
        group = ElementTree.SubElement(root, _GROUP, attributes | ({} if layer.visible else {"style": "display:none"}))
        place = {"x": layer.offset[0], "y": layer.offset[1], "width": layer.image.width, "height": layer.image.height}
        content = base64.b64encode(png_bytes(layer.image)).decode()
        picture = {key: str(value) for key, value in place.items()} | {_HREF: f"data:image/png;base64,{content}"}
        ElementTree.SubElement(group, _IMAGE, picture | {"style": "image-rendering:optimizeQuality"})
    for prefix, namespace in {"": _SVG, "xlink": _XLINK, "inkscape": _INKSCAPE, "omnialpha": _text.NAMESPACE}.items():
        ElementTree.register_namespace(prefix, namespace)
    with atomic_write(path, overwrite=overwrite) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read an SVG whose layers are embedded pictures.

    Args:
        path: The file.

    Returns:
        The stack, back to front; a name is that of the innermost named group.

    Raises:
        ImageError: The file cannot be used, or draws anything but embedded pictures at their own size.
    """
    with opened(path) as (stream, name), explained(name):
        root = ElementTree.fromstring(_content(stream, name))
        if root.tag != f"{{{_SVG}}}svg":
            raise ImageError(f"{name}: is no SVG; check the file")
        if drawn := next((element.tag for element in root.iter() if element.tag in _DRAWN), None):
            kind = drawn.rpartition("}")[2]
            raise ImageError(f"{name}: draws a {kind}; only embedded pictures are read, export it as PNG")
        view = [_checks.whole_number(word, "viewBox", name) for word in root.get("viewBox", "").split()]
        if len(view) != 4:
            raise ImageError(f"{name}: has no viewBox of four numbers; write it again")
        left, top, size = view[0], view[1], (view[2], view[3])
        rgba.check_size(size, name)
        layers = _checks.collect(_layers(root, "", 1.0, True, (left, top), name), name)
        metadata = json.loads(root.findtext(f".//{_METADATA}") or "{}")
        metadata = _checks.mapping(metadata, "metadata", name)
        return LayerStack(layers, size, _manifest.with_dpi(metadata, _dpi(root, size)))


def _content(stream: BinaryIO, name: str) -> bytes:
    content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ImageError(f"{name}: has more than {_MAX_BYTES >> 30} GiB; save as .psb")
    return content


def _layers(
    group: ElementTree.Element, label: str, opacity: float, visible: bool, origin: tuple[int, int], name: str
) -> Iterator[Layer]:
    """Pictures of a group, back to front; what the group does is handed down to them."""
    for item in group:
        if item.tag not in (_GROUP, _IMAGE):
            continue
        if item.get("transform") or "transform" in item.get("style", ""):
            raise ImageError(f"{name}: moves or turns a picture by a transform; apply it, or export it as PNG")
        style = dict(part.split(":", 1) for part in item.get("style", "").replace(" ", "").split(";") if ":" in part)
        strength = opacity * _checks.opacity(style.get("opacity", item.get("opacity", "1")), name)
        shown = visible and "none" not in (style.get("display"), item.get("display"))
        if item.tag == _GROUP:
            yield from _layers(item, item.get(_LABEL, label), strength, shown, origin, name)
        else:
            yield _picture(item, label, strength, shown, origin, name)


def _picture(
    item: ElementTree.Element, label: str, opacity: float, visible: bool, origin: tuple[int, int], name: str
) -> Layer:
    x, y, *stated = (_checks.whole_number(item.get(key, "0"), key, name) for key in ("x", "y", "width", "height"))
    reference = item.get(_HREF) or item.get("href") or ""
    kind, comma, encoded = reference.partition(",")
    # Never a file or an address: a picture from elsewhere must not make this machine read or fetch anything.
    if not comma or not kind.startswith("data:image/") or not kind.endswith(";base64"):
        raise ImageError(f"{name}: refers to a picture outside of itself ({reference[:40]}); embed it")
    try:
        content = io.BytesIO(base64.b64decode(encoded))
    except binascii.Error as error:
        raise ImageError(f"{name}: an embedded picture is damaged ({error}); write it again") from error
    content.name = f"{name} ({label})"
    image = rgba.read(content)
    if image.size != tuple(stated):
        raise ImageError(
            f"{name}: shows a picture of {image.width}×{image.height} pixels at {stated[0]}×{stated[1]}; "
            "only pictures at their own size are read, export it as PNG"
        )
    return Layer(image, label, opacity, visible, (x - origin[0], y - origin[1]))


def _dpi(root: ElementTree.Element, size: tuple[int, int]) -> tuple[float, float] | None:
    """The resolution that follows from a size in inches, unless it is that of CSS."""
    stated = [root.get(key, "") for key in ("width", "height")]
    if not all(word.endswith("in") for word in stated):
        return None
    across, down = (round(pixels / float(word[:-2]), 2) for pixels, word in zip(size, stated, strict=True))
    return None if across == down == _PIXELS_PER_INCH else (across, down)
