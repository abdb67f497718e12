"""Layered files: a folder of PNGs with a manifest, PSD, OpenRaster.

``save`` and ``open`` choose the format by the suffix of the path; each format is one module with ``read`` and
``write``. To add one, write such a module and name it in ``SUFFIXES``.
"""

import os
from pathlib import Path

from omnialpha.errors import ImageError, InputError, nearest
from omnialpha.formats import ora, png_folder, psd
from omnialpha.imaging.layers import LayerStack

__all__ = ["FORMATS", "SUFFIXES", "open", "save"]

FORMATS = {"png": png_folder, "psd": psd, "ora": ora}
"""Format name → module."""

SUFFIXES = {"": "png", ".psd": "psd", ".ora": "ora"}
"""Suffix → format name. A path without a suffix is a folder of PNGs."""


def save(
    stack: LayerStack, path: str | os.PathLike[str], *, format: str | None = None, overwrite: bool = False
) -> None:
    """Write a stack so that it appears under its name only when it is complete.

    Args:
        stack: Layers, names, offsets, opacities and visibility are kept; so is ``stack.metadata``.
        path: Final file or folder.
        format: One of ``FORMATS``; by default the suffix of ``path`` decides.
        overwrite: Replace what exists. A folder is replaced only when it holds nothing but layers written here.

    Raises:
        InputError: The format is unknown, or the suffix names none.
        OutputError: The path exists, or cannot be written.
    """
    if format is None:
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(
                f'{path}: "{suffix}" is not a layered format; use .psd, .ora or a folder name without a suffix, '
                f"or save stack.flatten() as one picture{nearest(suffix, SUFFIXES)}"
            )
        format = SUFFIXES[suffix]
    elif format not in FORMATS:
        raise InputError(f'unknown format "{format}"; one of {", ".join(FORMATS)}{nearest(format, FORMATS)}')
    FORMATS[format].write(stack, path, overwrite=overwrite)


def open(path: str | os.PathLike[str]) -> LayerStack:
    """Read a layered file or folder.

    Args:
        path: A PSD or ORA file, or a folder with a manifest.

    Returns:
        The stack, back to front. Blend modes and effects that a ``Layer`` cannot hold are logged and read as normal.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
    """
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: is not a layered file (.psd, .ora or a folder); open a picture with imaging.rgba")
    return FORMATS[SUFFIXES[suffix]].read(path)
