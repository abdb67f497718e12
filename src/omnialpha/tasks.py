"""The 21 tasks of the paper's Table 1 as data: what goes in, what comes out, which words ask for it.

Look a task up with :func:`task` (a misspelt name is answered with the nearest one) or walk over :data:`TASKS`, which
keeps Table 1's order. This module imports neither torch nor NumPy, so the command line can list tasks at once.

Slots name the pictures of a task in order. An input slot holds one picture, except ``foregrounds``, which holds one or
more; the target slot ``foregrounds`` likewise stands for one or more layers, ordered front to back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from omnialpha.errors import InputError, nearest

CATEGORIES = ("text_to_image", "completion", "matting", "removal", "decomposition")
"""The five categories of Table 1, in its order."""

SEVERAL = "foregrounds"
"""The one slot that stands for any number of pictures: Table 1's {I_fg}."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of Table 1.

    Attributes:
        id: The name used in Python and on the command line, e.g. ``"matting_auto"``.
        category: One of :data:`CATEGORIES`.
        inputs: Input slots in the order in which the pictures are passed.
        targets: Target slots in Table 1's order (foregrounds front to back, then the background).
        text: What the caption has to describe (``"foreground"``, ``"background"`` or ``"composite"``); None when the
            task takes no caption.
        instruction: The canonical instruction; contains ``{text}`` exactly when ``text`` is not None.
        paraphrases: Other wordings of the instruction, drawn at random in training.
    """

    id: str
    category: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    text: str | None
    instruction: str
    paraphrases: tuple[str, ...]

    def prompt(self, text: str | None = None, *, template: str | None = None) -> str:
        """The words for the model: an instruction with the caption filled in.

        Args:
            text: The caption, for the tasks that take one.
            template: Another wording to fill instead of the canonical instruction: one of ``paraphrases`` in training,
                or the wording that a checkpoint was tuned with.

        Raises:
            InputError: The caption is missing, empty, or given to a task that takes none.

        >>> task("matting_text").prompt("a red kite")
        'Cut out only the object described here: a red kite'
        """
        template = self.instruction if template is None else template
        if self.text is None:
            if text is not None:
                raise InputError(
                    f"{self.id} takes no text, received {text!r}; leave the text out{self._text_sibling()}"
                )
            return template
        if text is None or not text.strip():
            raise InputError(f"{self.id} needs a text that describes the {self.text}, received {text!r}; pass text=…")
        return template.replace("{text}", text.strip())

    def check_images(self, count: int) -> None:
        """Check the number of input pictures against the input slots.

        Raises:
            InputError: There are too few or too many; the message names the slots.

        >>> task("removal_trimap").check_images(2)
        """
        least = len(self.inputs)
        if count == least or (count > least and SEVERAL in self.inputs):
            return
        if not self.inputs:
            raise InputError(f"{self.id} takes no images, received {count}; leave the images out")
        expected = f"{least} or more" if SEVERAL in self.inputs else str(least)
        raise InputError(
            f"{self.id} takes {expected} {'image' if expected == '1' else 'images'} ({', then '.join(self.inputs)}), "
            f"received {count}; pass the images in that order"
        )

    def num_targets(self, requested: int | None = None) -> int:
        """How many layers to generate, the m of Eq. 1.

        Args:
            requested: The number asked for; None takes the smallest that the task allows.

        Raises:
            InputError: The task cannot give that many layers.

        >>> task("decomposition_auto").num_targets(), task("decomposition_auto").num_targets(4)
        (2, 4)
        """
        least = len(self.targets)
        if requested is None:
            return least
        if requested < least or (requested > least and SEVERAL not in self.targets):
            expected = f"{least} or more" if SEVERAL in self.targets else f"exactly {least}"
            noun = "layer" if expected == "exactly 1" else "layers"
            raise InputError(
                f"{self.id} gives {expected} {noun} ({', '.join(self.targets)}), received num_targets={requested}; "
                "leave num_targets out to take the smallest number"
            )
        return requested

    def layer_names(self, num_targets: int) -> tuple[str, ...]:
        """Names of the generated layers in Table 1's order; several foregrounds are numbered from the front.

        Raises:
            InputError: The task cannot give that many layers.

        >>> task("decomposition_auto").layer_names(3)
        ('foreground 1', 'foreground 2', 'background')
        """
        num_foregrounds = self.num_targets(num_targets) - (len(self.targets) - 1)
        foregrounds = [f"foreground {k}" for k in range(1, num_foregrounds + 1)]
        return tuple(name for slot in self.targets for name in (foregrounds if slot == SEVERAL else [slot]))

    def _text_sibling(self) -> str:
        """The remedy's second half: the task of the same category that does take a caption, where there is one."""
        sibling = f"{self.category}_text"
        return f" or use {sibling}" if sibling in TASKS else ""


def task(name: str) -> Task:
    """The task with this id.

    Raises:
        InputError: There is no such task; the message names the nearest one.

    >>> task("matting_auto").targets
    ('foreground',)
    """
    try:
        return TASKS[name]
    except KeyError:
        raise InputError(f'unknown task "{name}"{nearest(name, TASKS) or "; see omnialpha.tasks.TASKS"}') from None


# --- Wordings: the canonical one first, then the paraphrases (the style of the paper's Figures 5–79, not its words) ---

_TEXT_TO_IMAGE = (
    "Draw this on a transparent background: {text}",
    "Create a cut-out with transparency: {text}",
    "Make a transparent picture of this: {text}",
    "Paint only the following subject, without background: {text}",
    "Generate one isolated object with alpha: {text}",
    "Render this as a sticker with soft alpha: {text}",
    "Show the following on an empty backdrop: {text}",
    "An RGBA foreground layer of this: {text}",
    "Produce a see-through image containing: {text}",
)

_FOREGROUND_TO_BACKGROUND = (
    "Paint the background behind these layers: {text}",
    "Create a scene to put behind this: {text}",
    "Generate only the missing background: {text}",
    "Imagine the empty place around the object: {text}",
    "Fill in what lies behind the foreground: {text}",
    "Give these cut-outs a backdrop: {text}",
    "Make a matching background layer: {text}",
    "Draw the scene without the given objects: {text}",
    "Complete the picture with a background layer: {text}",
)

_FOREGROUND_TO_COMPOSITE = (
    "Place the given layers in a full scene: {text}",
    "Finish the whole picture around this foreground: {text}",
    "Compose a complete image with this object: {text}",
    "Put the cut-out into its surroundings: {text}",
    "Show the given subject inside this scene: {text}",
    "Blend the foreground into a finished photo: {text}",
    "Extend these layers to a full composite: {text}",
    "Build the final image around the subject: {text}",
    "Set the provided object into a picture: {text}",
)

_BACKGROUND_TO_FOREGROUND = (
    "Draw only the new object for this scene: {text}",
    "Create a foreground layer that fits here: {text}",
    "Generate a cut-out to lay over this background: {text}",
    "Make a transparent layer for this place: {text}",
    "Give this backdrop a subject on its own layer: {text}",
    "Paint just the missing foreground: {text}",
    "Add a separate object layer above this: {text}",
    "Produce the foreground alone, with alpha, for here: {text}",
    "Design an overlay that suits this scene: {text}",
)

_BACKGROUND_TO_COMPOSITE = (
    "Add this to the scene and show everything: {text}",
    "Finish the whole picture on this background: {text}",
    "Compose a complete image from this backdrop: {text}",
    "Place a subject here and blend it in: {text}",
    "Turn this empty scene into a full image: {text}",
    "Insert the described subject into this photo: {text}",
    "Build the final image upon this scene: {text}",
    "Populate this place as described: {text}",
    "Extend this background to a full composite: {text}",
)

_MATTING = (
    "Cut out the foreground with its transparency.",
    "Extract the subject with clean edges and alpha.",
    "Lift the main object off its background.",
    "Keep the foreground only, with soft borders.",
    "Take the subject out with exact transparency.",
    "Return the object as a transparent layer.",
    "Matte this picture with fine boundaries.",
    "Drop the background, keep every fine edge.",
    "Select the foreground and its true opacity.",
)

_MATTING_TEXT = (
    "Cut out only the object described here: {text}",
    "Extract this from the picture with alpha: {text}",
    "Find and matte the following: {text}",
    "Keep nothing but this, with clean edges: {text}",
    "Lift this object off its background: {text}",
    "Return a transparent layer of this: {text}",
    "Select the described thing and its true opacity: {text}",
    "Separate this subject from the rest: {text}",
    "Take only the following out of the image: {text}",
)

_REMOVAL = (
    "Remove the foreground and restore the background.",
    "Erase the main object, fill the gap.",
    "Take the subject away, repair the scene.",
    "Delete the object and rebuild the scene.",
    "Clear the subject out without a trace.",
    "Show this place without its main object.",
    "Make the foreground vanish, complete the backdrop.",
    "Wipe out the subject and paint the background.",
    "Return only the clean, empty background.",
)

_DECOMPOSITION = (
    "Decompose the picture into foreground and background.",
    "Separate this image into its layers.",
    "Break the scene down into stacked layers.",
    "Give the foreground and the complete background.",
    "Pull the subject and the backdrop apart.",
    "Turn this picture into transparent layers.",
    "Peel the foreground off, finish the backdrop.",
    "Split the photo into object and background.",
    "Unstack the image into foreground and background.",
)

_GUIDES = {
    "alpha": "an alpha matte",
    "trimap": "a trimap",
    "precise_mask": "a precise mask",
    "rough_mask": "a rough mask",
}
"""Input slots that say where the object is, and what the instruction calls them."""

_GUIDE_WORDINGS = (
    "The second picture is {guide}.",
    "Picture two is {guide}.",
    "The second image gives {guide}.",
)


def _guided(wordings: tuple[str, ...], guide: str) -> tuple[str, ...]:
    """Append to each wording a sentence that says what the second picture is; the canonical one gets the first."""
    sentences = [sentence.format(guide=_GUIDES[guide]) for sentence in _GUIDE_WORDINGS]
    return tuple(f"{wording} {sentences[i % len(sentences)]}" for i, wording in enumerate(wordings))


# --- Table 1 ---


def _row(id: str, category: str, inputs: str, targets: str, wordings: tuple[str, ...], text: str | None = None) -> Task:
    """A task whose slots are written as one line of words each."""
    return Task(
        id=id,
        category=category,
        inputs=tuple(inputs.split()),
        targets=tuple(targets.split()),
        text=text,
        instruction=wordings[0],
        paraphrases=wordings[1:],
    )


def _guidable(category: str, automatic_targets: str, guided_targets: str, wordings: tuple[str, ...]) -> list[Task]:
    """The automatic task of a category and its four guided forms (scene first, guide second)."""
    rows = [_row(f"{category}_auto", category, "composite", automatic_targets, wordings)]
    for guide in _GUIDES:
        guided = _guided(wordings, guide)
        rows.append(_row(f"{category}_{guide}", category, f"composite {guide}", guided_targets, guided))
    return rows


_ROWS = (
    _row("text_to_image", "text_to_image", "", "foreground", _TEXT_TO_IMAGE, "foreground"),
    _row(
        "foreground_to_background", "completion", "foregrounds", "background", _FOREGROUND_TO_BACKGROUND, "background"
    ),
    _row("foreground_to_composite", "completion", "foregrounds", "composite", _FOREGROUND_TO_COMPOSITE, "composite"),
    _row(
        "background_to_foreground", "completion", "background", "foregrounds", _BACKGROUND_TO_FOREGROUND, "foreground"
    ),
    _row("background_to_composite", "completion", "background", "composite", _BACKGROUND_TO_COMPOSITE, "composite"),
    *_guidable("matting", "foreground", "foreground", _MATTING),
    _row("matting_text", "matting", "composite", "foreground", _MATTING_TEXT, "foreground"),
    *_guidable("removal", "background", "background", _REMOVAL),
    *_guidable("decomposition", "foregrounds background", "foreground background", _DECOMPOSITION),
)

TASKS: Mapping[str, Task] = MappingProxyType({row.id: row for row in _ROWS})
"""The 21 tasks by id, in Table 1's order; read-only."""
