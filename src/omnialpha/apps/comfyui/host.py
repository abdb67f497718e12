"""What ComfyUI offers to nodes: memory, progress, interruption, folders. Each is left out where it is not there."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from omnialpha.errors import OutputError
from omnialpha.imaging.rgba import save_png

if TYPE_CHECKING:
    from omnialpha.pipeline import OmniAlphaPipeline  # imports diffusers, which a ComfyUI that starts does not need


class Resident:
    """A pipeline whose weights ComfyUI moves between the devices, as it does with its own models.

    Args:
        pipe: On the CPU where ComfyUI is there, else where it is to run.

    Attributes:
        pipe: To be called after `place`.
    """

    def __init__(self, pipe: "OmniAlphaPipeline") -> None:
        self.pipe = pipe
        self._patcher: Any = None
        if patchers := _comfy("comfy.model_patcher"):
            management = _comfy("comfy.model_management")
            # One module of plain torch around the three: ComfyUI writes attributes that diffusers' models refuse.
            parts = torch.nn.ModuleList([pipe.text_encoder, pipe.transformer, pipe.vae])
            self._patcher = patchers.ModelPatcher(
                parts, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
            )

    def place(self) -> "OmniAlphaPipeline":
        """The pipeline with its weights where they are to run; ComfyUI may move other models out for that."""
        if self._patcher is not None:
            # Whole or not at all: ComfyUI's partial loading needs its own layers.
            _comfy("comfy.model_management").load_models_gpu([self._patcher], force_full_load=True)
        return self.pipe


def managed() -> bool:
    """Whether ComfyUI decides where weights are."""
    return _comfy("comfy.model_patcher") is not None


def step_callback(steps: int) -> Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]:
    """A callback for the pipeline that moves ComfyUI's progress bar and ends the call when the user says so.

    Args:
        steps: Length of the bar.
    """
    utils, management = _comfy("comfy.utils"), _comfy("comfy.model_management")
    bar = utils.ProgressBar(steps) if utils else None

    def after_step(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if bar is not None:
            bar.update_absolute(step + 1, len(pipe.scheduler.timesteps))
        if management is not None:
            management.throw_exception_if_processing_interrupted()
        return tensors

    return after_step


def next_output(prefix: str, size: tuple[int, int]) -> tuple[Path, str]:
    """The next free name in ComfyUI's output folder.

    Args:
        prefix: As in "Save Image": may hold folders and fields such as %date%.
        size: Width and height, for the fields.

    Returns:
        The folder, and the name without its suffix.

    Raises:
        OutputError: ComfyUI is not there.
    """
    paths = _comfy("folder_paths")
    if paths is None:
        raise OutputError("only ComfyUI knows its output folder; outside it save the stack with stack.save(path)")
    folder, name, counter, _, _ = paths.get_save_image_path(prefix, paths.get_output_directory(), *size)
    # It counts files only as far as it knows their names: a folder of PNGs is none of them.
    while any(Path(folder).glob(f"{name}_{counter:05}_*")):
        counter += 1
    return Path(folder), f"{name}_{counter:05}_"


def show(pictures: list[Image.Image], name: str) -> dict[str, list[dict[str, str]]]:
    """Put pictures into ComfyUI's temporary folder and say so to the page, which shows them on the node."""
    shown = []
    folder = Path(_comfy("folder_paths").get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        file = f"{name}{number}.png"
        save_png(picture, folder / file, overwrite=True)
        shown.append({"filename": file, "subfolder": "", "type": "temp"})
    return {"images": shown}


def _comfy(name: str) -> ModuleType | Any:
    """A module of ComfyUI, None outside it. An error inside such a module is not hidden."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise
