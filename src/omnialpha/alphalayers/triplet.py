"""The record of one sample on its way through the stages: a foreground becomes foreground, background and composite.

A triplet is small and immutable: texts, and the places of pictures in the store. A stage reads it and returns it with
more of its fields filled, so it can be sent to any thread or machine that sees the folder of the build.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """One sample, as far as the stages have brought it. Texts are "" and pictures None until their stage is done.

    Attributes:
        id: Hex digest of the pixels of the foreground as it was collected; equal cut-outs have equal ids.
        seed: Of everything drawn for this sample; made of the id and the seed of the build.
        name: Data set and entry it comes from, for people: "aim500/o_123".
        source: Name of the data set.
        licence: Where the data set states one.
        identity: Of the object; samples of one identity are on one side of the split.
        given_caption: What the data set says of the foreground; "" when it says nothing.
        foreground: RGBA file. An editor that moves the object replaces it by the layer as it lies on the composite.
        composite: RGB file of the foreground's size.
        background: RGB file of the foreground's size.
        true_background: RGB file of the scene that the editor used, where it knows it; for the offline remover.
        true_background_caption: What that scene shows; for the offline captioner.
        foreground_caption: T_fg of the paper.
        composite_caption: T_comp: the imagined scene.
        instruction: T_rep: "Replace the background with …".
        background_caption: T_bg.
        score: S of Eq. 12, lower is better.
        stages: Name of each finished stage to the key of its record in the store.
    """

    id: str
    seed: int
    name: str
    source: str
    licence: str = ""
    identity: str
    given_caption: str = ""
    foreground: Path
    composite: Path | None = None
    background: Path | None = None
    true_background: Path | None = None
    true_background_caption: str = ""
    foreground_caption: str = ""
    composite_caption: str = ""
    instruction: str = ""
    background_caption: str = ""
    score: float | None = None
    stages: Mapping[str, str] = field(default_factory=dict)

    def read_foreground(self) -> np.ndarray:
        """``(H, W, 4)`` ``float32`` in [0, 1], straight alpha.

        Raises:
            ImageError: The file cannot be read.
        """
        return rgba.read_array(self.foreground)

    def read_composite(self) -> np.ndarray:
        """``(H, W, 3)`` ``float32`` in [0, 1]; only after the stage "edit".

        Raises:
            ImageError: The file cannot be read.
        """
        assert self.composite is not None
        return rgba.read_array(self.composite)[..., :3]

    def read_background(self) -> np.ndarray:
        """``(H, W, 3)`` ``float32`` in [0, 1]; only after the stage "remove".

        Raises:
            ImageError: The file cannot be read.
        """
        assert self.background is not None
        return rgba.read_array(self.background)[..., :3]

    def to_json(self, root: Path) -> dict[str, Any]:
        """The triplet as a JSON object without what is not known yet.

        Args:
            root: Folder of the build; paths are written relative to it, so that it may be moved.
        """
        record: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if isinstance(value, Path):
                record[name] = Path(os.path.relpath(value, root)).as_posix()
            elif value not in ("", None):
                record[name] = dict(value) if name == "stages" else value
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any], root: Path) -> "Triplet":
        """The triplet of a JSON object made by `to_json`.

        Args:
            record: The object.
            root: Folder of the build.
        """
        paths = {name: root / record[name] for name in PICTURES if record.get(name)}
        return cls(**{**record, **paths})


PICTURES = ("foreground", "composite", "background", "true_background")
"""The fields that are files."""

_NAMES = tuple(field.name for field in dataclasses.fields(Triplet))


def write_triplets(triplets: Iterable[Triplet], file: Path, root: Path) -> int:
    """Write triplets as JSONL, one at a time, atomically, replacing an older file.

    Args:
        triplets: Taken one after the other, never held together.
        file: To write.
        root: Folder of the build.

    Returns:
        How many there were.

    Raises:
        OutputError: It cannot be written.
    """
    count = 0
    with atomic_write(file, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for triplet in triplets:
            stream.write(json.dumps(triplet.to_json(root), sort_keys=True, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_triplets(file: Path, root: Path) -> Iterator[Triplet]:
    """Read triplets back, one at a time.

    Args:
        file: Written by `write_triplets`.
        root: Folder of the build.
    """
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            yield Triplet.from_json(json.loads(line), root)
