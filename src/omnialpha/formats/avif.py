"""One AVIF: the flattened stack at the highest quality, with metadata (XMP), resolution (EXIF) and sRGB's profile.

Alpha is exact. Colours pass through YCbCr and come back within 2/255.
"""

import os

from PIL import features

from omnialpha.errors import OutputError
from omnialpha.formats import _flat
from omnialpha.imaging.layers import LayerStack

read = _flat.read


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack, flattened, as an AVIF, which appears only when it is complete.

    Args:
        stack: What to write; several layers are flattened, which is logged.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: This Pillow writes no AVIF, the file exists, or it cannot be written.
    """
    if not features.check("avif"):
        raise OutputError(f"{path}: this build of Pillow has no AVIF; install Pillow from PyPI, or save as .webp")
    _flat.write(stack, path, "AVIF", {"quality": 100, "subsampling": "4:4:4"}, overwrite=overwrite)
