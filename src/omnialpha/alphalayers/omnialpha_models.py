"""This library's own checkpoints as editor and remover: OmniAlpha makes the data that it learns from."""

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from omnialpha.alphalayers.backends import Edited
from omnialpha.alphalayers.weights import identity
from omnialpha.hub import locate
from omnialpha.imaging import masks, rgba

if TYPE_CHECKING:
    from omnialpha.alphalayers.triplet import Triplet
    from omnialpha.pipeline import OmniAlphaPipeline


class _Backend:
    """A checkpoint that does one task for the pipeline, loaded when it is first asked.

    Args:
        name: The line of text that made it.
        target: "nano", "omnialpha", a folder or a hub id.
        adapter: Folder or hub id of an adapter.
        steps: Sampling steps; default: the checkpoint's.
        guidance: True CFG scale; default: the checkpoint's.
        device: Default: a GPU if any.
        dtype: Default: the device's.

    Raises:
        InputError: The checkpoint is unknown.
        CheckpointError: Weights are missing.
    """

    TASK: ClassVar[str]

    def __init__(
        self,
        name: str,
        target: str,
        *,
        adapter: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self._target, self._adapter, self._device, self._dtype = target, adapter, device, dtype
        self._steps, self._guidance = steps, guidance
        self._pipe: OmniAlphaPipeline | None = None
        self._lock = threading.Lock()
        base, extra = locate(target, adapter)
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {
            "kind": "omnialpha",
            "task": self.TASK,
            "weights": [identity(folder) for folder in (base, extra) if folder is not None],
            "steps": steps,
            "guidance": guidance,
            "dtype": dtype,
            "seed": "the sample's",
        }

    def _generate(self, images: list[Image.Image], *, text: str | None, seed: int) -> Image.Image:
        """Return the one layer that the task gives, "RGB", at the inputs' size."""
        import omnialpha

        with self._lock:
            if self._pipe is None:
                self._pipe = omnialpha.load(self._target, adapter=self._adapter, device=self._device, dtype=self._dtype)
                self._pipe.set_progress_bar_config(disable=True)
            output: Any = self._pipe(
                task=self.TASK,
                images=images,
                text=text,
                seed=seed,
                num_inference_steps=self._steps,
                true_cfg_scale=self._guidance,
                width=images[0].width,
                height=images[0].height,
            )
        image: Image.Image = output.stacks[0][0].image
        return image.convert("RGB")


class OmniAlphaEditor(_Backend):
    """A `backends.Editor`: the task foreground_to_composite, told T_comp."""

    TASK = "foreground_to_composite"

    def edit(self, sample: "Triplet") -> Edited:
        """Generate the scene around the foreground."""
        foreground = rgba.read(sample.foreground)
        composite = self._generate([foreground], text=sample.composite_caption, seed=sample.seed)
        return Edited(composite=composite, foreground=foreground)


class OmniAlphaRemover(_Backend):
    """A `backends.Remover`: the task removal_precise_mask."""

    TASK = "removal_precise_mask"

    def remove(self, sample: "Triplet") -> Image.Image:
        """Generate what is behind the foreground."""
        assert sample.composite is not None  # the stage before has made it
        # The mask that the task is trained with, not the wider one that inpainting models want.
        mask = Image.fromarray(masks.precise_mask(sample.read_foreground()[..., 3]))
        return self._generate([rgba.read(sample.composite), mask], text=None, seed=sample.seed)
