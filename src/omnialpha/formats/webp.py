"""One WebP: the flattened stack, lossless, with metadata (XMP), resolution (EXIF) and the profile of sRGB."""

import os

from omnialpha.errors import OutputError
from omnialpha.formats import _flat
from omnialpha.imaging.layers import LayerStack

read = _flat.read

_LONGEST_SIDE = 16_383


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack, flattened, as a lossless WebP, which appears only when it is complete.

    Args:
        stack: What to write; several layers are flattened, which is logged.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The canvas is too large for a WebP, the file exists, or it cannot be written.
    """
    if max(stack.size) > _LONGEST_SIDE:
        raise OutputError(f"{path}: a WebP is at most {_LONGEST_SIDE} pixels wide and high; save as .png")
    # exact: the colours of transparent pixels are kept, too.
    _flat.write(stack, path, "WEBP", {"lossless": True, "exact": True}, overwrite=overwrite)
