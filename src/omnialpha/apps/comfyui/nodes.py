"""The nodes: a loader, one for each family of tasks, guides from mattes, saving layers.

ComfyUI calls what is named here: `INPUT_TYPES`, `RETURN_TYPES` and the method that `FUNCTION` names, with the inputs as
keywords. A batch of pictures is one call of the model, except that foregrounds of a completion belong together.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import omnialpha
from omnialpha.apps.comfyui import convert, host
from omnialpha.apps.settings import DTYPES
from omnialpha.formats import FORMATS, SUFFIXES
from omnialpha.imaging.layers import LayerStack
from omnialpha.tasks import TASKS

MODEL, LAYERS = "OMNIALPHA_MODEL", "OMNIALPHA_LAYERS"
TEXT = ("STRING", {"default": "", "multiline": True})
COUNT = ("INT", {"default": 2, "min": 1, "max": 16})
SIDE = ("INT", {"default": 256, "min": 16, "max": 4096, "step": 16})
GUIDE = (list(convert.GUIDES), {"tooltip": "alpha: 1 − alpha, as Load Image gives it; the others: white is the object"})
SAMPLING = {
    "seed": ("INT", {"default": 0, "min": 0, "max": 2**53 - 1, "control_after_generate": True}),
    "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's own number"}),
    "guidance": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 30.0, "step": 0.1, "tooltip": "0: the model's own"}),
}
ENDINGS = {name: next(suffix for suffix, known in SUFFIXES.items() if known == name) for name in SUFFIXES.values()}

Result = tuple[Any, Any, list[LayerStack]]


class _Node:
    """What all nodes say about themselves to ComfyUI, as far as they agree."""

    CATEGORY = "OmniAlpha"
    FUNCTION = "run"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("IMAGE", "MASK", LAYERS)
    RETURN_NAMES: ClassVar[tuple[str, ...]] = ("image", "mask", "layers")
    run: Callable[..., Any]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        raise NotImplementedError


class Load(_Node):
    """Load a checkpoint."""

    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        name = ("STRING", {"default": "nano", "tooltip": "nano, omnialpha, a folder or a hub id"})
        adapter = ("STRING", {"default": "", "tooltip": "folder or hub id of an adapter"})
        return {"required": {"name": name, "dtype": (["default", *DTYPES],)}, "optional": {"adapter": adapter}}

    def run(self, name: str, dtype: str, adapter: str = "") -> tuple[host.Resident]:
        """Load it, on the CPU where ComfyUI moves models."""
        pipe = omnialpha.load(
            name,
            adapter=adapter.strip() or None,
            dtype=None if dtype == "default" else dtype,
            device="cpu" if host.managed() else None,
        )
        pipe.set_progress_bar_config(disable=True)
        return (host.Resident(pipe),)


class Generate(_Node):
    """Draw something on a transparent background."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        return {"required": {"model": (MODEL,), "text": TEXT, "width": SIDE, "height": SIDE, **SAMPLING}}

    def run(self, model: host.Resident, text: str, width: int, height: int, **sampling: Any) -> Result:
        """Run text_to_image."""
        return _sample(model, "text_to_image", None, sampling, text=text, width=width, height=height)


class Complete(_Node):
    """Add a background to cut-outs, a foreground to a scene, or make the finished picture of either."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        tasks = [task.id for task in TASKS.values() if task.category == "completion"]
        required = {"model": (MODEL,), "image": ("IMAGE",), "task": (tasks,), "text": TEXT, **SAMPLING}
        return {"required": required, "optional": {"mask": ("MASK",)}}

    def run(self, model: host.Resident, image: Any, task: str, text: str, mask: Any = None, **sampling: Any) -> Result:
        """Run a completion; the pictures of a batch are the foregrounds of one, or backgrounds of one each."""
        pictures = convert.to_pictures(image, mask)
        together = TASKS[task].inputs[0] == "foregrounds"
        return _sample(model, task, [pictures] if together else [[p] for p in pictures], sampling, text=text)


class _Guided(_Node):
    """A family whose tasks differ in what says where the object is."""

    category: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        required = {"model": (MODEL,), "image": ("IMAGE",), **SAMPLING}
        return {"required": required, "optional": {"mask": ("MASK",), "mask_is": GUIDE}}

    def run(
        self,
        model: host.Resident,
        image: Any,
        mask: Any = None,
        mask_is: str = convert.GUIDES[0],
        text: str | None = None,
        num_targets: int | None = None,
        **sampling: Any,
    ) -> Result:
        """Run the task that fits what is given; pictures are opaque here, so their own alpha is not used."""
        entries = [[picture] for picture in convert.to_pictures(image[..., :3])]
        if mask is not None:
            guides = convert.to_guides(mask, mask_is, image)
            entries = [[*entry, guide] for entry, guide in zip(entries, guides, strict=True)]
        kind = "text" if text else "auto" if mask is None else mask_is
        return _sample(model, f"{self.category}_{kind}", entries, sampling, text=text, num_targets=num_targets)


class Matte(_Guided):
    """Cut the foreground out, with soft transparency."""

    category = "matting"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        inputs = super().INPUT_TYPES()
        inputs["optional"]["text"] = ("STRING", {"default": "", "tooltip": "what to cut out, instead of a mask"})
        return inputs


class Remove(_Guided):
    """Remove the foreground and restore the background."""

    category = "removal"


class Decompose(_Guided):
    """Take pictures apart into foregrounds and complete background; layers come back to front."""

    category = "decomposition"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        inputs = super().INPUT_TYPES()
        inputs["required"]["num_targets"] = COUNT
        return inputs


class Guide(_Node):
    """Make a trimap or a mask from a matte."""

    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        kinds = [kind for kind in convert.GUIDES if kind != "alpha"]
        return {"required": {"mask": ("MASK",), "kind": (kinds,), "seed": SAMPLING["seed"]}}

    def run(self, mask: Any, kind: str, seed: int) -> tuple[Any]:
        """From 1 − alpha, as all nodes give it, to a selection of the object."""
        return (convert.guide_from_alpha(mask, kind, seed),)


class Save(_Node):
    """Save layers into ComfyUI's output folder and show them put together."""

    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs and their widgets."""
        formats = [name for name in FORMATS if name in ENDINGS]
        prefix = ("STRING", {"default": "OmniAlpha"})
        return {"required": {"layers": (LAYERS,), "filename_prefix": prefix, "format": (formats, {"default": "psd"})}}

    def run(self, layers: Sequence[LayerStack], filename_prefix: str, format: str) -> dict[str, Any]:
        """Write a file, or for "png" a folder, for each stack."""
        name = ""
        for stack in layers:
            folder, name = host.next_output(filename_prefix, stack.size)
            stack.save(folder / f"{name}{ENDINGS[format]}", format=format)
        return {"ui": host.show([stack.flatten() for stack in layers], name)}


def _sample(
    model: host.Resident, task: str, entries: list[list[Any]] | None, sampling: dict[str, Any], **options: Any
) -> Result:
    """Call the pipeline once and give its layers the forms that ComfyUI knows.

    Args:
        model: From `Load`.
        task: Its id.
        entries: Pictures of each batch entry; None for a task without pictures.
        sampling: Values of `SAMPLING`; 0 leaves steps and guidance to the model.
        options: Further arguments of the pipeline.
    """
    pipe = model.place()
    steps = sampling["steps"] or None
    stacks = pipe(
        task=task,
        images=entries,
        seed=sampling["seed"],
        num_inference_steps=steps,
        true_cfg_scale=sampling["guidance"] or None,
        callback_on_step_end=host.step_callback(steps or pipe.profile.steps),
        **{key: value for key, value in options.items() if value not in (None, "")},
    ).stacks
    return *convert.from_stacks(stacks), stacks


_NODES = {"Load": Load, "Generate": Generate, "Complete": Complete, "Matte": Matte, "Remove": Remove,
          "Decompose": Decompose, "Guide": Guide, "Save": Save}  # fmt: skip

NODE_CLASS_MAPPINGS = {f"OmniAlpha{name}": node for name, node in _NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {f"OmniAlpha{name}": f"OmniAlpha {name}" for name in _NODES}
