"""A result as a file to take home, in every format of `omnialpha.formats`."""

import zipfile
from pathlib import Path

from omnialpha import formats
from omnialpha.data.naming import slug
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack

_LABELS = {
    "psd": "Photoshop (.psd)",
    "png-flat": "One PNG picture (.png)",
    "png": "A PNG for each layer (.zip)",
    "ora": "OpenRaster, for Krita and GIMP (.ora)",
    "psb": "Photoshop, for large pictures (.psb)",
    "tiff": "TIFF with layers (.tif)",
    "exr": "OpenEXR, a part for each layer (.exr)",
    "exr-layers": "OpenEXR, named channels (.exr)",
    "webp": "WebP, one picture (.webp)",
    "avif": "AVIF, one picture (.avif)",
    "svg": "SVG (.svg)",
    "pptx": "PowerPoint slide (.pptx)",
    "preview": "Animation of the layers (.gif)",
}
_FOLDER = "png"  # the one format that is a folder


def choices() -> list[tuple[str, str]]:
    """What a result can be saved as: label and format, the most usual first.

    >>> choices()[0]
    ('Photoshop (.psd)', 'psd')
    """
    known = [name for name in _LABELS if name in formats.FORMATS]
    return [(_LABELS.get(name, name), name) for name in dict.fromkeys([*known, *formats.FORMATS])]


def export(stack: LayerStack, format: str, folder: Path, name: str) -> Path:
    """Write a result.

    Args:
        stack: Layers, arranged.
        format: One of `choices`.
        folder: Where to write; a file of the same name is replaced.
        name: What the file is called after, any text.

    Returns:
        The file; the folder of PNGs as a zip archive.

    Raises:
        InputError: There is no such format.
        OutputError: The file cannot be written.
        MissingExtraError: The format needs the extra ``formats``.
    """
    stem = slug(name)[:60].rstrip("-") or "layers"
    suffixes = {format: suffix for suffix, format in reversed(formats.SUFFIXES.items())}
    path = folder / f"{stem}{suffixes.get(format, '.' + format.partition('-')[0])}"
    formats.save(stack, path, format=format, overwrite=True)
    if format != _FOLDER:
        return path
    archive = path.with_name(f"{stem}.zip")
    with atomic_write(archive, overwrite=True) as temporary, zipfile.ZipFile(temporary, "w") as zipped:
        for file in sorted(path.iterdir()):
            zipped.write(file, f"{stem}/{file.name}")  # stored: PNGs are compressed already
    return archive
