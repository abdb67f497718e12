"""Diffusers pipelines as editor and remover: Qwen-Image-Edit-2509 and an inpainting model, as in the paper."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from omnialpha.alphalayers.backends import Edited
from omnialpha.alphalayers.weights import identity
from omnialpha.errors import CheckpointError
from omnialpha.evaluation.chat import over_white
from omnialpha.hub import PIPELINE_FILES, folder_or_fetch
from omnialpha.imaging import masks, rgba

if TYPE_CHECKING:
    from omnialpha.alphalayers.triplet import Triplet

AREA = 1024 * 1024
"""Pixels at which the paper's models work; pictures of other sizes are resized there and back."""

_GRID = 16  # sides are multiples of this

OBJECT_CLEAR_PROMPT = "remove the instance of object"
"""What ObjectClear is told, whatever the object."""


class _Lazy:
    """A pipeline, loaded when it is first called.

    Args:
        target: Folder or hub id.
        load: Makes it from its folder and the dtype of the weights.
        remedy: What to do when that fails.
        steps: Sampling steps.
        guidance: Guidance scale.
        area: Pixels at which the model works.
        device: Default: a GPU if any.
        dtype: Default: the device's.
    """

    def __init__(
        self,
        target: str,
        load: Callable[[Path, Any], Any],
        remedy: str,
        *,
        steps: int,
        guidance: float,
        area: int,
        device: str | None,
        dtype: str | None,
    ) -> None:
        self._folder = folder_or_fetch(target, PIPELINE_FILES)
        self._load, self._remedy, self._device, self._dtype = load, remedy, device, dtype
        self._steps, self._guidance, self._area = steps, guidance, area
        self._pipe: Any = None
        self._lock = threading.Lock()
        self.settings: dict[str, Any] = {
            "kind": "diffusers",
            "weights": identity(self._folder),
            "steps": steps,
            "guidance": guidance,
            "area": area,
            "dtype": dtype,
            "seed": "the sample's",
        }

    def __call__(self, size: tuple[int, int], seed: int, **inputs: Any) -> Image.Image:
        """Run it at its own size and the picture's shape; "RGB" of the picture's size."""
        import torch

        with self._lock:
            if self._pipe is None:
                self._pipe = self._opened()
            # Qwen's pipelines have both: there guidance_scale is for distilled models only.
            known = inspect.signature(self._pipe.__call__).parameters
            scale = "true_cfg_scale" if "true_cfg_scale" in known else "guidance_scale"
            factor = (self._area / (size[0] * size[1])) ** 0.5
            width, height = (max(_GRID, round(side * factor / _GRID) * _GRID) for side in size)
            [image] = self._pipe(
                **inputs,
                **{scale: self._guidance},
                negative_prompt=" ",
                width=width,
                height=height,
                num_inference_steps=self._steps,
                generator=torch.Generator("cpu").manual_seed(seed),
            ).images
        result: Image.Image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        return result

    def _opened(self) -> Any:
        """The pipeline on its device."""
        from omnialpha.checkpoints import choose_device, choose_dtype

        device = choose_device(self._device)
        try:
            pipe = self._load(self._folder, choose_dtype(self._dtype, device))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{self._folder}: cannot be loaded ({reason}); {self._remedy}") from error
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device)


class DiffusersEditor:
    """A `backends.Editor`: QwenImageEditPlusPipeline, shown I_fg over white and told T_rep.

    Args:
        name: The line of text that made it.
        target: Folder or hub id, as "Qwen/Qwen-Image-Edit-2509".
        steps: Sampling steps.
        guidance: True CFG scale.
        area: Pixels at which the model works.
        device: Default: a GPU if any.
        dtype: Default: the device's.

    Raises:
        CheckpointError: The weights are not there and cannot be downloaded.
    """

    def __init__(
        self,
        name: str,
        target: str,
        *,
        steps: int = 40,
        guidance: float = 4.0,
        area: int = AREA,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        remedy = "give a complete copy of Qwen/Qwen-Image-Edit-2509"
        options: dict[str, Any] = {"steps": steps, "guidance": guidance, "area": area, "device": device, "dtype": dtype}
        self._pipe = _Lazy(target, _qwen_image_edit, remedy, **options)
        self.name, self.workers, self.settings = name, 1, self._pipe.settings

    def edit(self, sample: "Triplet") -> Edited:
        """Replace the white around the foreground."""
        foreground = rgba.read(sample.foreground)
        composite = self._pipe(foreground.size, sample.seed, image=over_white(foreground), prompt=sample.instruction)
        return Edited(composite=composite, foreground=foreground)


class DiffusersRemover:
    """A `backends.Remover`: any inpainting pipeline of diffusers, under a mask of all that can be seen.

    Args:
        name: The line of text that made it.
        target: Folder or hub id of a model that AutoPipelineForInpainting knows.
        prompt: What the model is told.
        steps: Sampling steps.
        guidance: Guidance scale.
        area: Pixels at which the model works: 262144 for one that was trained at 512 × 512.
        device: Default: a GPU if any.
        dtype: Default: the device's.

    Raises:
        CheckpointError: The weights are not there and cannot be downloaded.
    """

    def __init__(
        self,
        name: str,
        target: str,
        *,
        prompt: str = OBJECT_CLEAR_PROMPT,
        steps: int = 20,
        guidance: float = 2.5,
        area: int = AREA,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        remedy = "give a complete copy of a model that diffusers' AutoPipelineForInpainting knows"
        options: dict[str, Any] = {"steps": steps, "guidance": guidance, "area": area, "device": device, "dtype": dtype}
        self._pipe = _Lazy(target, _inpainting, remedy, **options)
        self._prompt = prompt
        self.name, self.workers, self.settings = name, 1, self._pipe.settings | {"prompt": prompt}

    def remove(self, sample: "Triplet") -> Image.Image:
        """Paint what is behind the foreground."""
        assert sample.composite is not None  # the stage before has made it
        composite = rgba.read(sample.composite).convert("RGB")
        mask = Image.fromarray(masks.visible_mask(sample.read_foreground()[..., 3]))
        return self._pipe(composite.size, sample.seed, image=composite, mask_image=mask, prompt=self._prompt)


def _qwen_image_edit(folder: Path, dtype: Any) -> Any:
    from diffusers import QwenImageEditPlusPipeline

    from omnialpha.alphalayers.stills import StillsProcessor

    processor = StillsProcessor.from_pretrained(folder / "processor")
    return QwenImageEditPlusPipeline.from_pretrained(folder, processor=processor, dtype=dtype)


def _inpainting(folder: Path, dtype: Any) -> Any:
    from diffusers import AutoPipelineForInpainting

    return AutoPipelineForInpainting.from_pretrained(folder, dtype=dtype)
