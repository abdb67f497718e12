"""One PNG: the flattened stack, 8 bits, with metadata and resolution; ``png_folder`` has a PNG per layer."""

import os

from omnialpha.formats import _flat, _manifest
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import save_png

read = _flat.read


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack, flattened, as a PNG, which appears only when it is complete.

    Args:
        stack: What to write; several layers are flattened, which is logged.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    picture = _flat.flatten(stack, path)
    save_png(picture, path, stack.metadata or None, dpi=_manifest.dpi(stack), overwrite=overwrite)
