"""A result as a file to take home, in every layered format and as one picture."""

import zipfile
from pathlib import Path

from omnialpha import formats
from omnialpha.data.naming import slug
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import save_png

FLAT = "flat.png"
"""The choice of one picture of all visible layers."""

_NAMES = {
    "psd": "Photoshop (.psd)",
    "psb": "Photoshop, large (.psb)",
    "ora": "OpenRaster: Krita, GIMP (.ora)",
    "tif": "Layered TIFF (.tif)",
    "tiff": "Layered TIFF (.tiff)",
    "exr": "OpenEXR, linear (.exr)",
    "pptx": "PowerPoint (.pptx)",
    "svg": "SVG (.svg)",
    "webp": "WebP (.webp)",
    "avif": "AVIF (.avif)",
    "gif": "Animation of the layers (.gif)",
}


def choices() -> list[tuple[str, str]]:
    """What a result can be saved as: label and suffix, the most usual first.

    >>> choices()[:2]
    [('Photoshop (.psd)', '.psd'), ('One PNG picture', 'flat.png')]
    """
    suffixes = [suffix for suffix in formats.SUFFIXES if suffix]
    first = [(_NAMES["psd"], ".psd"), ("One PNG picture", FLAT), ("PNG layers, zipped (.zip)", "")]
    rest = [(_NAMES.get(suffix[1:], suffix[1:].upper()), suffix) for suffix in suffixes if suffix != ".psd"]
    return first + rest


def export(stack: LayerStack, suffix: str, folder: Path, name: str) -> Path:
    """Write a result.

    Args:
        stack: Layers, arranged.
        suffix: One of `choices`.
        folder: Where to write; a file of the same name is replaced.
        name: What the file is called after, any text.

    Returns:
        The file; the folder of PNGs as a zip archive.

    Raises:
        InputError: The suffix names no format.
        OutputError: The file cannot be written.
    """
    stem = slug(name)[:60].rstrip("-") or "layers"
    if suffix == FLAT:
        path = folder / f"{stem}.png"
        save_png(stack.flatten(), path, stack.metadata, overwrite=True)
        return path
    path = folder / f"{stem}{suffix}"
    formats.save(stack, path, overwrite=True)
    if suffix:
        return path
    archive = path.with_name(f"{stem}.zip")
    with atomic_write(archive, overwrite=True) as temporary, zipfile.ZipFile(temporary, "w") as zipped:
        for file in sorted(path.iterdir()):
            zipped.write(file, f"{stem}/{file.name}")  # stored: PNGs are compressed already
    return archive
