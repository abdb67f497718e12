"""A model's result refined with its input: every layer at the input's size, as sharp as the input.

The pipeline returns what the model made, scaled. Here the input is used again:

- alpha: `alpha.full_alpha`, closed-form matting that keeps what model and guide say
- foreground: the input's own pixels where alpha is 1, `colours.foreground_colours` where it is between
- background: `background.full_background`, the input's own pixels but behind the object
- `alignment` first puts back layers that have drifted
- completion of foregrounds to a composite: the given layers lie over what the model painted around them
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.refine.alignment import aligned
from omnialpha.imaging.refine.alpha import Known, full_alpha
from omnialpha.imaging.refine.background import full_background
from omnialpha.imaging.refine.colours import foreground_colours
from omnialpha.imaging.refine.guides import covered_by, known_from
from omnialpha.imaging.refine.planes import STRIP, Size, resized_plane, strips
from omnialpha.imaging.rgba import guide_channel, premultiply, to_array, unpremultiply
from omnialpha.tasks import SEVERAL, Task
from omnialpha.tasks import task as find_task

WORTHWHILE = 0.9  # a model that worked at less than this share of the pixels has lost detail


def is_reduced(stack: LayerStack) -> bool:
    """Whether the model worked at a visibly smaller size than the stack has, as the pipeline noted."""
    width, height = stack.metadata.get("work_size", stack.size)
    return bool(width * height < WORTHWHILE * stack.size[0] * stack.size[1])


def refine(task: str, images: Sequence[Image.Image], stack: LayerStack, *, residual: bool = False) -> LayerStack:
    """Refine the result of a task with its input pictures.

    Of several foregrounds each is refined where it is seen; where others hide it the model's word stands. A composite
    around given foregrounds shows them as they were given. The other tasks whose input is no composite have nothing to
    gain: their stack is returned as it is.

    Args:
        task: Id of the task.
        images: Its input pictures in slot order, all of one size.
        stack: What the pipeline returned, at its working size or scaled to any other (then
            ``stack.metadata["work_size"]`` says at which the model worked).
        residual: Add a layer on top with which a decomposition shows the input exactly, to 1/255.

    Returns:
        A stack of the input's size, straight alpha.

    Raises:
        InputError: Number or sizes of the pictures, or the layers, do not fit the task; a residual is asked of a task
            that takes nothing apart; or no residual exists, as for a transparent input.

    >>> picture = Image.new("RGB", (64, 64), "red")
    >>> raw = LayerStack([Layer(Image.new("RGBA", (8, 8), (250, 9, 9, 255)), "foreground")])
    >>> refine("matting_auto", [picture], raw)[0].image.getpixel((0, 0))
    (255, 0, 0, 255)
    """
    found = find_task(task)
    found.check_images(len(images))
    if residual and found.category != "decomposition":
        raise InputError(f"a residual belongs to a decomposition, {found.id} takes nothing apart; leave it out")
    if len({image.size for image in images}) > 1:
        sizes = ", ".join(f"{image.width}×{image.height}" for image in images)
        raise InputError(f"refinement needs input pictures of one size, received {sizes}; resize the guide first")
    if found.inputs == (SEVERAL,) and found.targets == ("composite",):
        return _around(images, stack)
    if found.inputs[:1] != ("composite",):
        return stack
    found.num_targets(len(stack))
    parts = _Parts(found, images, stack)
    refined = LayerStack(
        [Layer(parts.layer(name), name) for name in [layer.name for layer in stack]],
        images[0].size,
        stack.metadata | {"refined": True},
    )
    if residual:
        refined.layers.append(Layer(_residual(refined, images[0]), "residual"))
    return refined


class _Parts:
    """The refined layers of one stack.

    Args:
        task: With a composite as its first input.
        images: Its inputs.
        stack: The model's result.
    """

    def __init__(self, task: Task, images: Sequence[Image.Image], stack: LayerStack) -> None:
        original = images[0].convert("RGBA")
        self._image = np.asarray(original.convert("RGB"))
        self._limit = np.asarray(original.getchannel("A"))
        size = tuple(stack.metadata.get("work_size", stack.size))
        work = min(size[0], original.width), min(size[1], original.height)
        raw = [_at_size(layer.image, work) for layer in stack]
        names = [layer.name for layer in stack]
        if "background" in task.targets:
            shown = LayerStack([Layer(image) for image in raw]).flatten()
            raw = aligned(raw, original.resize(work, Image.Resampling.BOX), shown)
        self._raw = {name: to_array(image) for name, image in zip(names, raw, strict=True)}
        self._front_to_back = [name for name in reversed(names) if name != "background"]
        self._guide = (task.inputs[1], np.asarray(guide_channel(images[1]))) if len(images) > 1 else None
        self._pixel = max(original.width / work[0], original.height / work[1])
        self._alphas, self._visible = self._all_alphas()

    def layer(self, name: str) -> Image.Image:
        """One layer, "RGBA" of the input's size."""
        return self._background() if name == "background" else self._foreground(name)

    def _all_alphas(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | None]]:
        """Alpha of each foreground, and which share of it is seen past those in front; None: all of it."""
        known: Known | None = None if self._guide is None else known_from(*self._guide, self._pixel)
        alphas: dict[str, np.ndarray] = {}
        visible: dict[str, np.ndarray | None] = {}
        seen: np.ndarray | None = None
        for name in self._front_to_back:
            raw = self._raw[name][..., 3]
            alpha = full_alpha(self._image, raw, known)
            if seen is not None:
                size = self._image.shape[1], self._image.shape[0]
                hidden = resized_plane(raw, size, Image.Resampling.BICUBIC).clip(0, 1)
                alpha = seen * alpha + (1 - seen) * hidden
            alphas[name] = np.minimum(alpha, self._limit / np.float32(255))
            visible[name] = seen
            seen = 1 - alphas[name] if seen is None else seen * (1 - alphas[name])
        return alphas, visible

    def _foreground(self, name: str) -> Image.Image:
        alpha, seen = self._alphas[name], self._visible[name]
        result = np.empty((*alpha.shape, 4), np.uint8)
        colours = foreground_colours(self._image / np.float32(255), alpha if seen is None else alpha * seen)
        raw = np.moveaxis(premultiply(self._raw[name]), -1, 0)
        for top, bottom, rows in strips(alpha.shape, raw.shape[1:]):
            part = colours[top:bottom]
            if seen is not None:
                size = alpha.shape[1], bottom - top
                planes = [resized_plane(plane, size, Image.Resampling.BICUBIC, rows) for plane in raw]
                hidden = unpremultiply(np.dstack(planes).clip(0, 1))[..., :3]
                part = hidden + seen[top:bottom, :, None] * (part - hidden)
            result[top:bottom, :, :3] = np.rint(part.clip(0, 1) * 255)
            result[top:bottom, :, 3] = np.rint(alpha[top:bottom] * 255)
        result[result[..., 3] == 0] = 0
        return Image.fromarray(result)

    def _background(self) -> Image.Image:
        cover: np.ndarray | None = None
        if self._alphas:
            uncovered = np.ones(self._limit.shape, np.float32)
            for alpha in self._alphas.values():
                uncovered *= 1 - alpha
            cover = 1 - uncovered
        elif self._guide is not None:
            cover = covered_by(*self._guide)
        return Image.fromarray(full_background(self._image, self._raw["background"][..., :3], cover)).convert("RGBA")


def _around(foregrounds: Sequence[Image.Image], stack: LayerStack) -> LayerStack:
    """The composite with the given layers, front to back, as they were given: the model only paints around them."""
    size = foregrounds[0].size
    painted = stack[0].image.convert("RGBa").resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    shown = LayerStack([Layer(painted), *(Layer(image.convert("RGBA")) for image in reversed(foregrounds))]).flatten()
    return LayerStack([Layer(shown, stack[0].name)], size, stack.metadata | {"refined": True})


def _at_size(image: Image.Image, size: Size) -> Image.Image:
    """An "RGBA" image at another size, colours blended as alpha asks."""
    if image.size == size:
        return image
    return image.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")


def _residual(stack: LayerStack, original: Image.Image) -> Image.Image:
    """`LayerStack.residual` in strips, two at a time: it takes a dozen planes of floats, and most of the time."""
    target = original.convert("RGBA")
    width, height = stack.size
    boxes = [(0, top, width, min(top + STRIP, height)) for top in range(0, height, STRIP)]

    def part(box: tuple[int, int, int, int]) -> Image.Image:
        return LayerStack([Layer(layer.image.crop(box)) for layer in stack]).residual(target.crop(box)).image

    result = Image.new("RGBA", stack.size)
    with ThreadPoolExecutor(max_workers=2) as threads:
        for box, strip in zip(boxes, threads.map(part, boxes), strict=True):
            result.paste(strip, box)
    return result
