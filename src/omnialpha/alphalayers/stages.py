"""The stages of one sample (paper, §3.4, Fig. 3 and 4), each a pure function of the sample and a backend.

`STAGES` lists them in their order; `advance` runs them and keeps their answers. What concerns all samples together
(near-duplicates, the best K, the split) is in `build`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from omnialpha.alphalayers.backends import Captioner, Editor, Remover
from omnialpha.alphalayers.masking import four_masks
from omnialpha.alphalayers.prompts import OPENING
from omnialpha.alphalayers.quality import Aesthetic, measure
from omnialpha.alphalayers.score import score
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.data.scenes import caption_whole
from omnialpha.errors import InputError
from omnialpha.imaging import rgba


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a stage found.

    Attributes:
        values: JSON. Those that are fields of `Triplet` go on with it, the others stay in the stage's record.
        pictures: The same for pictures.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: Also the name of its folder in the store.
        role: Which backend runs it: "captioner", "editor", "remover" or "aesthetic"; "" for none.
        version: Raised when its answers change, so that old ones are not taken for new.
        reads: Fields of `Triplet` that the answer depends on; the backend sees no others.
        run: The function, given a sample and the backend.
    """

    name: str
    role: str = ""
    version: int = 1
    reads: tuple[str, ...]
    run: Callable[[Triplet, Any], Answer]


def _measure(sample: Triplet, aesthetic: Aesthetic | None) -> Answer:
    """Stage 2, the part that looks at one cut-out."""
    return Answer(values={"quality": dataclasses.asdict(measure(sample.read_foreground(), aesthetic))})


def _caption(sample: Triplet, captioner: Captioner) -> Answer:
    """Stage 3."""
    return Answer(values={"foreground_caption": captioner.caption_foreground(sample)})


def _imagine(sample: Triplet, captioner: Captioner) -> Answer:
    """Stage 4."""
    return Answer(values={"composite_caption": captioner.imagine(sample)})


def _instruct(sample: Triplet, captioner: Captioner) -> Answer:
    """Stage 5."""
    return Answer(values={"instruction": captioner.replace_instruction(sample)})


def _edit(sample: Triplet, editor: Editor) -> Answer:
    """Stage 6. An editor that chose the scene itself makes untrue what was imagined: what it says replaces that."""
    edited = editor.edit(sample)
    before, foreground = rgba.read(sample.foreground), edited.foreground.convert("RGBA")
    pictures = {"composite": edited.composite.convert("RGB")}
    if foreground.size != before.size or foreground.tobytes() != before.tobytes():
        pictures["foreground"] = foreground
    if edited.background is not None:
        pictures["true_background"] = edited.background.convert("RGB")
    for name, image in pictures.items():
        _check_size(f"the editor's {name}", image, foreground.size)
    if not edited.background_caption:
        return Answer(pictures=pictures)
    captions = {
        "true_background_caption": edited.background_caption,
        "composite_caption": caption_whole((sample.foreground_caption,), edited.background_caption),
        "instruction": f"{OPENING} {edited.background_caption}.",
    }
    return Answer(values=captions, pictures=pictures)


def _remove(sample: Triplet, remover: Remover) -> Answer:
    """Stage 7."""
    assert sample.composite is not None
    background = remover.remove(sample).convert("RGB")
    _check_size("the remover's background", background, rgba.read(sample.composite).size)
    return Answer(pictures={"background": background})


def _caption_background(sample: Triplet, captioner: Captioner) -> Answer:
    """Stage 8."""
    return Answer(values={"background_caption": captioner.caption_background(sample)})


def _score(sample: Triplet, _: None) -> Answer:
    """Stage 9, Eq. 9–12."""
    found = score(sample.read_foreground(), sample.read_background(), sample.read_composite())
    errors = {"foreground_error": found.foreground, "recomposite_error": found.recomposite}
    return Answer(values={"score": found.total, **errors})


def _masks(sample: Triplet, _: None) -> Answer:
    """Stage 10."""
    return Answer(pictures=four_masks(np.asarray(rgba.read(sample.foreground).getchannel("A"))))


def _check_size(what: str, image: Image.Image, expected: tuple[int, int]) -> None:
    if image.size != expected:
        raise InputError(f"{what} has {image.size} pixels where the foreground has {expected}; mend the backend")


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(name="measure", role="aesthetic", reads=("foreground",), run=_measure),
        Stage(name="caption", role="captioner", reads=("foreground", "given_caption", "seed"), run=_caption),
        Stage(name="imagine", role="captioner", reads=("foreground", "foreground_caption", "seed"), run=_imagine),
        Stage(
            name="instruct",
            role="captioner",
            reads=("foreground", "foreground_caption", "composite_caption", "seed"),
            run=_instruct,
        ),
        Stage(
            name="edit",
            role="editor",
            reads=("foreground", "foreground_caption", "composite_caption", "instruction", "seed"),
            run=_edit,
        ),
        Stage(name="remove", role="remover", reads=("foreground", "composite", "true_background", "seed"), run=_remove),
        Stage(
            name="caption_background",
            role="captioner",
            reads=("background", "true_background_caption", "instruction", "seed"),
            run=_caption_background,
        ),
        Stage(name="score", reads=("foreground", "background", "composite"), run=_score),
        Stage(name="masks", reads=("foreground",), run=_masks),
    )
}
"""Name to stage, in their order."""
