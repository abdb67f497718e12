"""The left side of the page in use: which parts a task needs, and filling them in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from omnialpha.apps.server.jobs import Work
from omnialpha.apps.studio.choices import PAINTED, guide_of
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.apps.studio.guides import painted_guide
from omnialpha.apps.studio.history import History, Visit
from omnialpha.apps.studio.page.layout import HIGH, LOW, Page
from omnialpha.apps.studio.telling import Updates, nothing_else, told
from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.rgba import save_png
from omnialpha.models.profile import Profile
from omnialpha.request import GUIDES
from omnialpha.tasks import SEVERAL, TASKS, Task

CANVAS = 1024
"""Longest side of the canvas for painting, in pixels: guides need no more, and a phone can hold it."""

_PICTURES = {"composite": "Picture", "background": "Background", SEVERAL: "Cut-outs"}
_MISSING = {"alpha": "alpha matte", "background": "background"}
_WORDS = {
    "foreground": "Describe the object",
    "background": "Describe the background",
    "composite": "Describe the whole picture",
}


class Question:
    """The actions of the left side.

    Args:
        page: The parts of the page.
        profile: Of the model: its defaults.
        history: Where results are kept.
    """

    def __init__(self, page: Page, profile: Profile, history: History) -> None:
        self.page, self._profile, self._history = page, profile, history

    def parts(self) -> list[Any]:
        """What `needs` updates."""
        p = self.page
        return [p.picture, p.cutouts, p.painting, p.guide, p.text, p.layers, p.steps, p.guidance]

    @told(nothing_else)
    def choose_family(self, values: dict[Any, Any]) -> Updates:
        """Another thing to do."""
        family = values[self.page.family]
        shown = {way: gr.update(visible=name == family) for name, way in self.page.ways.items()}
        return shown | self.needs(self.page.task(values))

    @told(nothing_else)
    def choose_way(self, task_id: str) -> Updates:
        """Another way to say where the object is."""
        return self.needs(TASKS[task_id])

    @told(nothing_else)
    def take_picture(self, picture: str | None) -> Updates:
        """A picture was dropped or removed: put it under the brush, so that painting can begin."""
        return {self.page.paint: None if picture is None else _canvas(rgba.read(picture))}

    @told(nothing_else)
    def fill_example(self, chosen: gr.EventData) -> Updates:
        """Put an example into the parts."""
        example = EXAMPLES[chosen.index]
        return self._filled(Work(task=example.task, text=example.text), example.files)

    @told(nothing_else)
    def fill_again(self, visit: Visit) -> Updates:
        """Put the settings and pictures of the shown result back into the parts."""
        if visit.shown is None:
            raise InputError("there is no result yet; run something first")
        entry = self._history.get(visit.shown)
        return self._filled(entry.work, entry.images)

    def needs(self, task: Task) -> Updates:
        """Show the parts that a task needs, with its defaults, and hide the others."""
        p, guide = self.page, guide_of(task)
        given = task.inputs[0] if task.inputs else None
        painted = guide in PAINTED
        least = len(task.targets)
        steps = self._profile.task_steps.get(task.id, self._profile.steps)
        guidance = self._profile.task_cfg.get(task.id, self._profile.true_cfg_scale)
        finished = "Finished guide, used instead of painting" if painted else "Alpha matte"
        return {
            p.picture: gr.update(
                visible=given in ("composite", "background"),
                label=_PICTURES.get(given or ""),
                height=LOW if painted else HIGH,  # painted over, it is seen twice
            ),
            p.cutouts: gr.update(visible=given == SEVERAL),
            p.painting: gr.update(visible=painted),
            p.guide: gr.update(visible=guide is not None, label=finished),
            p.text: gr.update(visible=task.text is not None, label=_WORDS.get(task.text or "")),
            p.layers: gr.update(visible=SEVERAL in task.targets, minimum=least, value=least),
            p.steps: gr.update(value=steps),
            p.guidance: gr.update(value=guidance),
        }

    def pictures(self, task: Task, values: dict[Any, Any], folder: Path) -> tuple[Path, ...]:
        """The files for a task, in the order of its slots.

        Args:
            task: The task.
            values: Of the parts of the page.
            folder: Where a painted guide is written.

        Raises:
            InputError: A picture or guide is missing.
            ImageError: The picture under the strokes cannot be read.
        """
        p = self.page
        files: list[Path] = []
        for slot in task.inputs:
            if slot == SEVERAL:
                files += [Path(file) for file, _ in values[p.cutouts] or ()]
            elif slot in PAINTED and values[p.guide] is None:
                painted = painted_guide(_strokes(values[p.paint]), rgba.read(files[0]).size, slot)
                files.append(folder / f"{slot}.png")
                save_png(painted, files[-1], overwrite=True)
            elif (file := values[p.guide if slot in GUIDES else p.picture]) is not None:
                files.append(Path(file))
            else:
                raise InputError(f"the {_MISSING.get(slot, 'picture')} is missing; drop or paste it, or try an example")
        if task.inputs and not files:
            raise InputError("the cut-out is missing; drop or paste it, or try an example")
        return tuple(files)

    def _choice(self, task: Task) -> Updates:
        """Family and way of a task."""
        ways = {
            way: gr.update(visible=True, value=task.id) if name == task.category else gr.update(visible=False)
            for name, way in self.page.ways.items()
        }
        return {self.page.family: task.category} | ways

    def _filled(self, work: Work, files: Sequence[Path]) -> Updates:
        """All parts for what was asked for once."""
        p, task = self.page, TASKS[work.task]
        there = [str(file) for file in files]
        several = task.inputs[:1] == (SEVERAL,)
        updates = self._choice(task) | self.needs(task)
        values: Updates = {
            p.picture: None if several or not there else there[0],
            p.cutouts: there if several else None,
            p.guide: there[1] if guide_of(task) else None,
            p.text: work.text or "",
        }
        values |= {p.layers: work.layers} if work.layers is not None else {}
        values |= {p.steps: work.steps} if work.steps is not None else {}
        values |= {p.guidance: work.guidance} if work.guidance is not None else {}
        for part, value in values.items():
            updates[part] = {**updates.get(part, gr.update()), "value": value}
        return updates | {p.seed: work.seed, p.status: ""}


def _canvas(image: Image.Image) -> dict[str, Any]:
    """A picture as the ground for painting."""
    small = image.copy()
    small.thumbnail((CANVAS, CANVAS), Image.Resampling.LANCZOS)
    return {"background": small, "layers": [], "composite": None}


def _strokes(paint: Any) -> Image.Image:
    """What was painted, on one transparent picture."""
    layers = [layer.convert("RGBA") for layer in (paint or {}).get("layers", ())]
    if not layers:
        raise InputError("nothing is painted; paint over the object, or drop a finished guide")
    strokes = layers[0]
    for layer in layers[1:]:
        strokes.alpha_composite(layer)
    return strokes
