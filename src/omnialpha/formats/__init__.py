"""Layered files: PSD, OpenRaster, TIFF, OpenEXR and others; docs/formats.md lists what each of them keeps.

``save`` and ``open`` choose the format by the suffix of the path; each format is one module with ``write`` and, unless
it is written only, ``read``. To add one, write such a module and name it in ``FORMATS`` and ``SUFFIXES``.
"""

import os
from logging import getLogger
from pathlib import Path
from types import ModuleType

from omnialpha.errors import ImageError, InputError, nearest
from omnialpha.formats import _flat as flat
from omnialpha.formats import (
    avif,
    exr,
    exr_layers,
    ora,
    png,
    png_folder,
    pptx,
    preview,
    psb,
    psd,
    svg,
    tiff,
    webp,
)
from omnialpha.imaging.layers import LayerStack

logger = getLogger(__name__)

__all__ = ["FORMATS", "SUFFIXES", "open", "save"]

FORMATS: dict[str, ModuleType] = {
    "png": png_folder,
    "png-flat": png,
    "psd": psd,
    "psb": psb,
    "ora": ora,
    "tiff": tiff,
    "exr": exr,
    "exr-layers": exr_layers,
    "webp": webp,
    "avif": avif,
    "svg": svg,
    "pptx": pptx,
    "preview": preview,
}
"""Format name → module."""

SUFFIXES = {
    "": "png",
    ".png": "png-flat",
    ".psd": "psd",
    ".psb": "psb",
    ".ora": "ora",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".exr": "exr",
    ".webp": "webp",
    ".avif": "avif",
    ".svg": "svg",
    ".pptx": "pptx",
    ".gif": "preview",
}
"""Suffix → format name. A path without a suffix is a folder of PNGs."""

_PICTURES = (".jpg", ".jpeg", ".bmp")  # are read as a stack of one layer, not written: they have no transparency
_DEEP = (tiff, exr, exr_layers)  # hold more than 8 bits


def save(
    stack: LayerStack, path: str | os.PathLike[str], *, format: str | None = None, overwrite: bool = False
) -> None:
    """Write a stack so that it appears under its name only when it is complete.

    Args:
        stack: Layers, names, offsets, opacities, visibility and ``stack.metadata`` are kept as far as the format can.
            ``metadata["dpi"]``, two numbers, becomes the resolution of the file.
        path: Final file or folder.
        format: One of ``FORMATS``; by default the suffix of ``path`` decides.
        overwrite: Replace what exists. A folder is replaced only when it holds nothing but layers written here.

    Raises:
        InputError: The format is unknown, or the suffix names none.
        OutputError: The path exists, or cannot be written.
        MissingExtraError: The format needs the extra ``formats``.
    """
    if format is None:
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(
                f'{path}: "{suffix}" is not a format that is written; use {_suffixes()} '
                f"or a folder name without a suffix{nearest(suffix, SUFFIXES)}"
            )
        format = SUFFIXES[suffix]
    elif format not in FORMATS:
        raise InputError(f'unknown format "{format}"; one of {", ".join(FORMATS)}{nearest(format, FORMATS)}')
    if FORMATS[format] not in _DEEP and any(layer.deep is not None for layer in stack):
        logger.info(
            "%s: holds 8 bits per channel; the layers' finer steps are rounded (.tiff and .exr keep them)", path
        )
    FORMATS[format].write(stack, path, overwrite=overwrite)


def open(path: str | os.PathLike[str]) -> LayerStack:
    """Read a layered file, a folder, or a picture as a stack of one layer.

    Args:
        path: A file with one of ``SUFFIXES``, a JPEG or BMP, or a folder with a manifest.

    Returns:
        The stack, back to front. Blend modes and effects that a ``Layer`` cannot hold are logged and read as normal.

    Raises:
        ImageError: The file cannot be used, or its format is written only; the message says what to do.
        MissingExtraError: The format needs the extra ``formats``.
    """
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    module = flat if suffix in _PICTURES else FORMATS.get(SUFFIXES.get(suffix, ""))
    if module is None:
        raise ImageError(f"{path}: is not a layered file or a picture; give {_suffixes()}, .jpg, .bmp or a folder")
    if not hasattr(module, "read"):
        raise ImageError(f'{path}: "{suffix}" is written only; open the file that it was made from')
    stack: LayerStack = module.read(path)
    return stack


def _suffixes() -> str:
    return ", ".join(filter(None, SUFFIXES))
