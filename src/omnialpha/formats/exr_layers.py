"""OpenEXR of one part, as Blender and Krita write it: the merged picture as R, G, B, A, each layer as "name.R", ….

Values are those of ``exr``, which reads both kinds. All channels of a part lie in one window, so it covers canvas and
layers alike; names begin with a number, since channels are sorted by name.
"""

import os

import numpy as np

from omnialpha.errors import OutputError
from omnialpha.extras import require
from omnialpha.formats import exr
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import MAX_PIXELS

read = exr.read

_LONGEST_NAME = 40  # Blender cuts the name of a channel at 64 bytes


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as an EXR of one part, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: Layers lie too far apart for one window, the file exists, or it cannot be written.
        MissingExtraError: The extra ``formats`` is not installed.
    """
    openexr = require("OpenEXR", extra="formats")
    boxes = [(*layer.offset, *layer.image.size) for layer in stack]
    window = _around([(0, 0, *stack.size), *boxes])
    if window[2] * window[3] > MAX_PIXELS:
        raise OutputError(f"{path}: layers lie too far apart for one part; save with one part per layer (--format exr)")
    channels = exr.channels(_placed(stack.flatten_array(), (0, 0), window))
    for number, layer in enumerate(stack):
        name = layer.name.replace(".", "_").replace("\0", "").encode(errors="replace").decode()[:_LONGEST_NAME]
        channels |= exr.channels(_placed(layer.array(), layer.offset, window), f"{number:04d} {name}.")
    with atomic_write(path, overwrite=overwrite) as temporary:
        openexr.File({**exr.header(stack, window), **exr.description(stack)}, channels).write(str(temporary))


def _around(boxes: list[exr.Box]) -> exr.Box:
    """The smallest box around all of them."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _placed(array: np.ndarray, offset: tuple[int, int], window: exr.Box) -> np.ndarray:
    """A picture at its place in a transparent one that fills the window."""
    placed = np.zeros((window[3], window[2], 4), np.float32)
    x, y = offset[0] - window[0], offset[1] - window[1]
    placed[y : y + array.shape[0], x : x + array.shape[1]] = array
    return placed
