"""A folder of PNGs, one per layer, with a JSON manifest: readable by any program, and the exact 8-bit pixels.

- ``manifest.json``: {"format": "omnialpha layers", "version": 1, "size": [W, H], "layers": [...], "metadata": {...}};
  the layers are listed back to front, each with its file, name, opacity, visible and offset [x, y]
- ``00-background.png``, ``01-foreground-1.png``, …: the layers
- ``merged.png``: the flattened picture, for viewers; not read back
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnialpha.errors import ImageError, OutputError
from omnialpha.formats import _checks
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_folder, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import check_size

MANIFEST, MERGED = "manifest.json", "merged.png"
_FORMAT, _VERSION = "omnialpha layers", 1


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack to a folder, which appears only when it is complete.

    Args:
        stack: What to write.
        path: The folder.
        overwrite: Replace a folder that this function wrote.

    Raises:
        OutputError: The folder exists, holds other files, or cannot be written.
    """
    folder = Path(path)
    if folder.exists():
        _check_replaceable(folder, overwrite)
    entries = [
        {
            "file": _file_name(index, layer.name),
            "name": layer.name,
            "opacity": layer.opacity,
            "visible": layer.visible,
            "offset": list(layer.offset),
        }
        for index, layer in enumerate(stack)
    ]
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "size": list(stack.size),
        "layers": entries,
        "metadata": stack.metadata,
    }
    with atomic_folder(folder) as temporary:
        for layer, entry in zip(stack, entries, strict=True):
            layer.image.save(temporary / str(entry["file"]))
        stack.flatten().save(temporary / MERGED)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read a folder that ``write`` made, or one made by hand in the same way.

    Args:
        path: The folder.

    Returns:
        The stack, back to front.

    Raises:
        ImageError: A file is missing or damaged; the message names it.
    """
    folder, name = Path(path), str(path)
    if not folder.is_dir():
        raise ImageError(f"{name}: no such folder; check the path")
    manifest = _read_manifest(folder)
    canvas = _pair(manifest.get("size"), "size", name)
    check_size(canvas, name)
    layers = _checks.collect(_layers(folder, manifest), name)
    return LayerStack(layers, canvas, _checks.mapping(manifest.get("metadata", {}), "metadata", name))


def _layers(folder: Path, manifest: dict[str, Any]) -> Iterator[Layer]:
    name = str(folder / MANIFEST)
    entries = manifest.get("layers")
    if not isinstance(entries, list):
        raise ImageError(f"{name}: has no list of layers; write the folder again")
    for item in entries:
        entry = _checks.mapping(item, "layer", name)
        file = entry.get("file")
        # A manifest from elsewhere must not reach outside its folder.
        if not isinstance(file, str) or not file or Path(file).name != file or "\\" in file:
            raise ImageError(f"{name}: the file of a layer is {file!r}, not a name inside the folder; correct it")
        yield Layer(
            rgba.read(folder / file),
            str(entry.get("name", "")),
            _checks.opacity(entry.get("opacity", 1.0), name),
            bool(entry.get("visible", True)),
            _pair(entry.get("offset", [0, 0]), "offset", name),
        )


def _pair(value: Any, what: str, name: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ImageError(f"{name}: the {what} in {MANIFEST} is {value!r}, not two numbers; write the folder again")
    return _checks.whole_number(value[0], what, name), _checks.whole_number(value[1], what, name)


def _read_manifest(folder: Path) -> dict[str, Any]:
    with opened(folder / MANIFEST) as (stream, name), explained(name):
        manifest = json.loads(stream.read())
        if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
            raise ImageError(f'{name}: does not say "format": "{_FORMAT}"; this is not a folder of layers')
        if manifest.get("version") != _VERSION:
            raise ImageError(f"{name}: has version {manifest.get('version')!r}, known is {_VERSION}; update omnialpha")
        return manifest


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    """Let go ahead only when replacing the folder loses nothing but layers."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file where a folder was expected; choose another name")
    present = {file.name for file in folder.iterdir()}
    if not present:
        return
    if not overwrite:
        raise OutputError(f"{folder}: is not empty; choose another name or overwrite it (overwrite=True, --overwrite)")
    try:
        layers = _read_manifest(folder).get("layers", [])
    except ImageError as error:
        raise OutputError(f"{folder}: holds other files than layers, not replaced; choose another name") from error
    ours = {MANIFEST, MERGED, *(entry["file"] for entry in layers if isinstance(entry, dict) and "file" in entry)}
    if not present <= ours:
        others = ", ".join(sorted(present - ours)[:3])
        raise OutputError(f"{folder}: holds other files than layers ({others}), not replaced; choose another name")


def _file_name(index: int, layer_name: str) -> str:
    """``"02-red-car.png"``: the order of the layers, and as much of the name as every file system takes."""
    words = re.sub(r"[^a-z0-9]+", "-", layer_name.lower()).strip("-")[:40].strip("-")
    return f"{index:02d}-{words}.png" if words else f"{index:02d}.png"
