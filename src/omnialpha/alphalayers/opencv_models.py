"""A remover that needs no model: OpenCV's inpainting, as the benchmarks run it."""

from typing import TYPE_CHECKING, Any

from PIL import Image

from omnialpha.errors import InputError, nearest
from omnialpha.evaluation.baselines import baseline
from omnialpha.imaging import masks, rgba

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
        mask = Image.fromarray(masks.visible_mask(sample.read_foreground()[..., 3]))
        [layer] = self._inpaint(task="removal_precise_mask", images=[rgba.read(sample.composite), mask])
        return layer.convert("RGB")
