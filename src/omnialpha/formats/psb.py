"""Large Photoshop documents: as ``psd``, with sides of up to 300,000 pixels and files of more than 2 GiB."""

import os

from omnialpha.formats import psd
from omnialpha.imaging.layers import LayerStack

read = psd.read


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as a PSB, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: A layer is too large for a PSB, the file exists, or it cannot be written.
    """
    psd.write_version(2, stack, path, overwrite=overwrite)
