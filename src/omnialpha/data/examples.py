"""Turn a scene and a task into what the model sees: input pictures, target layers, an instruction (Table 1)."""

from dataclasses import dataclass

import numpy as np

from omnialpha.data.scenes import Scene, caption_several, composite_over
from omnialpha.errors import InputError
from omnialpha.imaging.masks import precise_mask, rough_mask, trimap
from omnialpha.tasks import SEVERAL, Task


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training or evaluation example.

    Attributes:
        task: id of the task, or the name of the data set where the task is not known.
        inputs: n pictures in slot order, float32 (H, W, 4) in [0, 1].
        targets: m layers in Table 1's order (foregrounds front to back, then the background), same format.
        prompt: the instruction, caption filled in.
        caption: the caption alone, None when the task takes none.
    """

    task: str
    inputs: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    prompt: str
    caption: str | None


def make_example(
    scene: Scene, task: Task, rng: np.random.Generator, *, paraphrase: bool = True, focus: int | None = None
) -> Example:
    """Make the example of a task from a scene.

    Tasks about one object (guided ones, matting by text) are about one foreground of the scene, the others belonging
    to its background; automatic tasks are about all of them. The object's target is whole, also where it is covered.

    Args:
        scene: with one or more foregrounds.
        task: any of the 21.
        rng: chooses wording, object and mask.
        paraphrase: draw the wording; False takes the canonical instruction.
        focus: index of the object that the task is about; drawn when not given.

    Raises:
        InputError: the task needs a caption or a background that the scene does not have.
    """
    focus = int(rng.integers(len(scene.foregrounds))) if focus is None else focus
    about_one = SEVERAL not in task.targets and SEVERAL not in task.inputs and "composite" in task.inputs
    foreground = scene.foregrounds[focus]

    def pictures(slot: str) -> list[np.ndarray]:
        if slot == SEVERAL:
            return list(scene.foregrounds)
        if slot == "foreground":
            return [foreground]
        if slot == "background":
            return [_background(scene, without=focus if about_one else None)]
        if slot == "composite":
            return [scene.composite]
        return [guide_picture(foreground[..., 3], slot, rng)]

    captions = {
        "foreground": caption_several(scene.captions) if SEVERAL in task.targets else scene.captions[focus],
        "background": scene.background_caption,
        "composite": scene.composite_caption,
        None: None,
    }
    caption = captions[task.text]
    wordings = (task.instruction, *task.paraphrases)
    template = wordings[rng.integers(len(wordings))] if paraphrase else task.instruction
    return Example(
        task=task.id,
        inputs=tuple(picture for slot in task.inputs for picture in pictures(slot)),
        targets=tuple(picture for slot in task.targets for picture in pictures(slot)),
        prompt=task.prompt(caption, template=template),
        caption=caption,
    )


def guide_picture(alpha: np.ndarray, slot: str, rng: np.random.Generator) -> np.ndarray:
    """The guide of a slot ("alpha", "trimap", "precise_mask", "rough_mask") as an opaque grey picture (H, W, 4)."""
    if slot == "alpha":
        grey = alpha
    elif slot == "precise_mask":
        grey = precise_mask(alpha) / 255
    else:
        bands = trimap(alpha, generator=rng)
        grey = (bands if slot == "trimap" else rough_mask(bands)) / 255
    picture = np.repeat(grey.astype(np.float32)[..., None], 4, axis=-1)
    picture[..., 3] = 1
    return picture


def _background(scene: Scene, *, without: int | None) -> np.ndarray:
    """What is behind the foregrounds, or what the scene shows when only one of them is taken away."""
    if scene.background is None:
        raise InputError("the task needs the background, which this scene does not have; draw a matting task instead")
    picture = scene.background
    for index in reversed(range(len(scene.foregrounds) if without is not None else 0)):
        if index != without:
            picture = composite_over(scene.foregrounds[index], picture)
    return picture
