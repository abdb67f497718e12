"""What the layers of a stack are called and where they lie, as JSON: in the manifest of a folder, or inside a file.

    {"format": "omnialpha layers", "version": 1, "size": [W, H], "metadata": {...},
     "layers": [{"name": "...", "opacity": 1.0, "visible": true, "offset": [x, y]}, ...]}

Layers are listed back to front. Formats that have no place of their own for these values keep them this way.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from omnialpha.errors import ImageError, InputError
from omnialpha.formats import _checks
from omnialpha.imaging.layers import LayerStack

_FORMAT, _VERSION = "omnialpha layers", 1
_DPI = "dpi"


def describe(stack: LayerStack) -> dict[str, Any]:
    """Everything of a stack but its pixels, as JSON values."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "size": list(stack.size),
        "layers": [
            {
                "name": layer.name,
                "opacity": layer.opacity,
                "visible": layer.visible,
                "offset": list(layer.offset),
            }
            for layer in stack
        ],
        "metadata": stack.metadata,
    }


def parse(text: str | bytes, name: str) -> dict[str, Any]:
    """The reverse of ``describe``; the values of each layer are checked by ``fields`` when it is read.

    Args:
        text: JSON.
        name: The file, for the message.

    Raises:
        ImageError: It is not a description of layers.
    """
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ImageError(f'{name}: does not say "format": "{_FORMAT}"; this is not a folder of layers')
    if manifest.get("version") != _VERSION:
        raise ImageError(f"{name}: has version {manifest.get('version')!r}, known is {_VERSION}; update omnialpha")
    if not isinstance(manifest.get("layers"), list):
        raise ImageError(f"{name}: has no list of layers; write it again")
    return manifest


def ours(text: Any, count: int, name: str) -> dict[str, Any] | None:
    """The description that ``text`` holds, if it is one and has as many layers as were found in the file.

    Args:
        text: What stands in the place where ``describe``'s JSON is kept: another program may have written it.
        count: Layers in the file.
        name: The file, for the message.
    """
    if not isinstance(text, str) or _FORMAT not in text:
        return None
    manifest = parse(text, name)
    return manifest if len(manifest["layers"]) == count else None  # another program added or deleted layers


def fields(entry: Any, name: str) -> dict[str, Any]:
    """Arguments of a ``Layer``, from its entry in a description.

    Raises:
        ImageError: A value makes no sense.
    """
    entry = _checks.mapping(entry, "layer", name)
    return {
        "name": str(entry.get("name", "")),
        "opacity": _checks.opacity(entry.get("opacity", 1.0), name),
        "visible": bool(entry.get("visible", True)),
        "offset": _checks.pair(entry.get("offset", [0, 0]), "offset", name),
    }


def size(manifest: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Size of the canvas, from a description."""
    return _checks.pair(manifest.get("size"), "size", name)


def metadata(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """``LayerStack.metadata``, from a description."""
    return _checks.mapping(manifest.get("metadata", {}), "metadata", name)


def dpi(stack: LayerStack) -> tuple[float, float] | None:
    """The resolution that ``stack.metadata["dpi"]`` asks for: dots per inch across and down.

    Raises:
        InputError: It is not two positive numbers.
    """
    value = stack.metadata.get(_DPI)
    if value is None:
        return None
    numbers = [x for x in value if isinstance(x, int | float)] if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or not all(math.isfinite(x) and 1 <= x <= 65_535 for x in numbers):
        raise InputError(f'metadata["dpi"] is two numbers from 1 to 65535, not {value!r}; correct it or leave it out')
    return float(numbers[0]), float(numbers[1])


def with_dpi(metadata: Mapping[str, Any], found: tuple[float, float] | None) -> dict[str, Any]:
    """Metadata with the resolution that the file itself states, where the metadata does not know it already."""
    return ({} if found is None else {_DPI: list(found)}) | dict(metadata)
