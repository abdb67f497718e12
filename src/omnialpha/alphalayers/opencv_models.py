"""A remover that needs no model: OpenCV's inpainting, as the benchmarks run it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from omnialpha.alphalayers.score import VISIBLE
from omnialpha.errors import InputError, nearest
from omnialpha.evaluation.baselines import baseline
from omnialpha.imaging import rgba

if TYPE_CHECKING:
    from omnialpha.alphalayers.triplet import Triplet

ALGORITHMS = ("telea", "navier_stokes")


class OpenCVRemover:
    """A `backends.Remover` that continues the surroundings into the hole: for flat backgrounds, and as a baseline.

    Args:
        name: The line of text that made it.
        target: One of `ALGORITHMS`.

    Raises:
        InputError: The algorithm is unknown.
        MissingExtraError: The extra "baselines" is not installed.
    """

    def __init__(self, name: str, target: str) -> None:
        if target not in ALGORITHMS:
            known = f"; known: {', '.join(ALGORITHMS)}"
            raise InputError(f'"{name}": unknown algorithm "{target}"{nearest(target, ALGORITHMS) or known}')
        self._inpaint = baseline(target)
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {"kind": "opencv", "algorithm": target, **self._inpaint.settings}

    def remove(self, sample: "Triplet") -> Image.Image:
        """Fill what the foreground covers."""
        assert sample.composite is not None  # the stage before has made it
        mask = binary_mask(sample.read_foreground())
        [layer] = self._inpaint(task="removal_precise_mask", images=[rgba.read(sample.composite), mask])
        return layer.convert("RGB")


def binary_mask(foreground: np.ndarray) -> Image.Image:
    """Everything of a foreground ``(H, W, 4)`` that can be seen (Ω of Eq. 9): white on black, "L"."""
    return Image.fromarray(np.where(foreground[..., 3] > VISIBLE, 255, 0).astype(np.uint8))
