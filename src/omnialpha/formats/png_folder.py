"""A folder of PNGs, one per layer, with a JSON manifest: readable by any program, and the exact 8-bit pixels.

- ``manifest.json``: what ``_manifest`` describes, each layer with its file
- ``00-background.png``, ``01-foreground-1.png``, …: the layers
- ``merged.png``: the flattened picture, for viewers; not read back
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnialpha.errors import ImageError, OutputError
from omnialpha.formats import _checks, _manifest, _text
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_folder, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import check_size, save_png

MANIFEST, MERGED = "manifest.json", "merged.png"


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
    manifest, dpi = _manifest.describe(stack), _manifest.dpi(stack)
    for index, entry in enumerate(manifest["layers"]):
        entry["file"] = "-".join(filter(None, (f"{index:02d}", _text.slug(entry["name"])))) + ".png"
    with atomic_folder(folder) as temporary:
        for layer, entry in zip(stack, manifest["layers"], strict=True):
            save_png(layer.image, temporary / entry["file"], dpi=dpi)
        save_png(stack.flatten(), temporary / MERGED, dpi=dpi)
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
    canvas = _manifest.size(manifest, name)
    check_size(canvas, name)
    layers = _checks.collect(_layers(folder, manifest), name)
    return LayerStack(layers, canvas, _manifest.metadata(manifest, name))


def _layers(folder: Path, manifest: dict[str, Any]) -> Iterator[Layer]:
    name = str(folder / MANIFEST)
    for item in manifest["layers"]:
        entry = _checks.mapping(item, "layer", name)
        file = entry.get("file")
        # A manifest from elsewhere must not reach outside its folder.
        if not isinstance(file, str) or not file or Path(file).name != file or "\\" in file:
            raise ImageError(f"{name}: the file of a layer is {file!r}, not a name inside the folder; correct it")
        yield Layer(rgba.read(folder / file), **_manifest.fields(entry, name))


def _read_manifest(folder: Path) -> dict[str, Any]:
    with opened(folder / MANIFEST) as (stream, name), explained(name):
        return _manifest.parse(stream.read(), name)


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
