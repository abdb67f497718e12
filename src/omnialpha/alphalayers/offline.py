"""Backends without any model: texts from the data set and templates, photographs for scenes, true backgrounds."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from omnialpha.alphalayers.backends import Edited
from omnialpha.alphalayers.prompts import OPENING
from omnialpha.alphalayers.scenery import scenery
from omnialpha.alphalayers.weights import identity
from omnialpha.data.paste import caption_of, pictures
from omnialpha.data.scenes import Backdrop, as_cutout
from omnialpha.data.staging import stage
from omnialpha.errors import InputError, RejectedError
from omnialpha.imaging import rgba
from omnialpha.imaging.rgba import to_pil

if TYPE_CHECKING:
    from omnialpha.alphalayers.triplet import Triplet

PROCEDURAL = "procedural"
"""Target of the editor that stands for drawn landscapes instead of a folder."""

SCENES = (
    "a sunny park with a gravel path",
    "a quiet beach at low tide",
    "a wooden floor in a bright room",
    "a cobbled street in the old town",
    "a meadow in front of distant hills",
    "a workshop with a stained workbench",
    "a forest clearing in the morning mist",
    "a kitchen table beside a window",
)
"""What the captioner imagines; an editor that brings its own scenes says what they show instead."""

_SHAPE = 4 / 3  # the most that one side of a composite is longer than the other
_DRAW = 0x5343454E45  # keeps the draws of a scene apart from others with the sample's seed


class OfflineCaptioner:
    """A `backends.Captioner` that answers from what came with the sample.

    Args:
        name: The line of text that made it.
    """

    def __init__(self, name: str) -> None:
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {"kind": "offline", "scenes": list(SCENES)}

    def caption_foreground(self, sample: "Triplet") -> str:
        """The data set's caption.

        Raises:
            RejectedError: There is none.
        """
        if not sample.given_caption:
            raise RejectedError("caption", "no caption comes with it, and its file name says nothing; name the file")
        return sample.given_caption

    def imagine(self, sample: "Triplet") -> str:
        """The foreground in one of `SCENES`, chosen by the sample's seed."""
        return f"{sample.foreground_caption.rstrip('.')} in {self._scene(sample)}"

    def replace_instruction(self, sample: "Triplet") -> str:
        """The same scene as an instruction."""
        return f"{OPENING} {self._scene(sample)}."

    def caption_background(self, sample: "Triplet") -> str:
        """What the editor says of its scene, else the scene that was asked for."""
        return sample.true_background_caption or sample.instruction.removeprefix(OPENING).strip(" .")

    @staticmethod
    def _scene(sample: "Triplet") -> str:
        return SCENES[sample.seed % len(SCENES)]


class OfflineEditor:
    """A `backends.Editor` that puts the cut-out into a photograph, with the scene's light on it and a shadow under it.

    The canvas is the foreground's own, widened where one side is more than 4/3 of the other. Instructions are not read:
    photograph, place, scale, tilt and light are drawn by the sample's seed.

    Args:
        name: The line of text that made it.
        target: A folder of photographs, a package corpus, or "procedural" for drawn landscapes.
        split: Only the photographs of this split of a package corpus.

    Raises:
        InputError: The folder holds no photographs.
    """

    def __init__(self, name: str, target: str, *, split: str | None = None) -> None:
        self._photographs = None if target == PROCEDURAL else photographs(Path(target), split)
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {"kind": "offline", "backdrops": PROCEDURAL, "seed": "the sample's"}
        if self._photographs is not None:
            captions = [caption for _, caption in self._photographs]
            self.settings |= {
                "backdrops": identity(target, (file for file, _ in self._photographs)),
                "captions": hashlib.sha256(json.dumps(captions).encode()).hexdigest()[:16],
            }

    def edit(self, sample: "Triplet") -> Edited:
        """Compose the scene.

        Raises:
            RejectedError: Nothing of the foreground can be seen.
        """
        image = rgba.read(sample.foreground)
        box = image.getchannel("A").getbbox()
        if box is None:
            raise RejectedError("edit", "nothing of the foreground can be seen")
        rng = np.random.default_rng([sample.seed, _DRAW])
        size = _canvas(image.size)
        cutout = as_cutout(image.crop(box), caption=sample.foreground_caption, name=sample.id)
        scene = stage([cutout], self._backdrop(rng, size), rng, size)
        assert scene.background is not None
        return Edited(
            composite=to_pil(scene.composite).convert("RGB"),
            foreground=to_pil(scene.foregrounds[0]),
            background=to_pil(scene.background).convert("RGB"),
            background_caption=scene.background_caption,
        )

    def _backdrop(self, rng: np.random.Generator, size: tuple[int, int]) -> Backdrop:
        if self._photographs is None:
            image, caption = scenery(int(rng.integers(2**32)), *size)
            return Backdrop(image=image, caption=caption, name=caption)
        file, caption = self._photographs[int(rng.integers(len(self._photographs)))]
        return Backdrop(image=rgba.read(file).convert("RGB"), caption=caption, name=file.stem)


class OfflineRemover:
    """A `backends.Remover` that knows the answer: the scene into which the offline editor put the foreground.

    Args:
        name: The line of text that made it.
    """

    def __init__(self, name: str) -> None:
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {"kind": "offline"}

    def remove(self, sample: "Triplet") -> Image.Image:
        """Hand on the true background.

        Raises:
            InputError: The editor knew none.
        """
        if sample.true_background is None:
            raise InputError("the offline remover needs an editor that knows its scene; use --editor offline:BACKDROPS")
        return rgba.read(sample.true_background).convert("RGB")


def photographs(folder: Path, split: str | None = None) -> list[tuple[Path, str]]:
    """The backgrounds of a folder with their captions.

    Args:
        folder: Pictures captioned as for `data.paste`, or a package corpus with its `index.jsonl`.
        split: Only this split of the corpus.

    Returns:
        Files and captions, in the order of their names.

    Raises:
        InputError: There are none.
    """
    index = folder / "index.jsonl"
    if not index.is_file():
        if split is not None:
            raise InputError(f"{folder}: has no index.jsonl, so no split either; leave split={split} out")
        return [(file, caption_of(file)) for file in pictures(folder)]
    records = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    found = [r for r in records if r["kind"] == "background" and split in (None, r["split"])]
    if not found:
        raise InputError(f"{index}: lists no background of split {split}; leave the split out, or prepare the corpus")
    return sorted((folder / r["path"], str(r["caption"])) for r in found)


def _canvas(size: tuple[int, int]) -> tuple[int, int]:
    """A foreground's size with the shorter side made long enough.

    >>> _canvas((100, 256)), _canvas((640, 480))
    ((192, 256), (640, 480))
    """
    shortest = round(max(size) / _SHAPE)
    return max(size[0], shortest), max(size[1], shortest)
