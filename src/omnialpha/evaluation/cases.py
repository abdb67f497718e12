"""One evaluation case: which task on which pictures, and what is compared with what. Nothing is decoded until asked."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.evaluation._inputs import unit_floats
from omnialpha.evaluation.pictures import Note
from omnialpha.imaging.layers import over

Kind = Literal["matte", "cutout", "picture", "layers", "generated"]
"""What a prediction is, and so how it is scored.

- matte: only alpha has a truth
- cutout: RGBA with a truth
- picture: an opaque picture with a truth
- layers: a stack with a truth
- generated: there is no truth for one picture; sets of pictures are compared, and the picture with its text
"""


@dataclass(frozen=True, kw_only=True)
class Content:
    """The pictures of a case, read.

    Attributes:
        images: "RGBA" inputs in the order of the task's slots; empty where only predictions can be scored.
        target: what the kind compares with: ``(H, W)``, ``(H, W, 3)``, ``(H, W, 4)``, or a list of ``(H, W, 4)`` from
            back to front. For generated pictures a member of the reference set, ``(H, W, 4)``, or None.
        trimap: ``(H, W)`` of 0, 128, 255, where there is one.
    """

    images: tuple[Image.Image, ...]
    target: np.ndarray | list[np.ndarray] | None
    trimap: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One evaluation case.

    Attributes:
        id: unique within the task; names the prediction's file.
        task: id of the task.
        kind: how the prediction is scored.
        text: caption, for tasks that take one.
        num_targets: number of layers to generate.
        files: the files it is read from, for the hash of the data.
        read: reads the pictures; takes a function that receives notes on conversions.
    """

    id: str
    task: str
    kind: Kind
    text: str | None = None
    num_targets: int = 1
    files: tuple[Path, ...] = ()
    read: Callable[[Note], Content]

    @property
    def name(self) -> str:
        """The case in messages and file names: "task/id"."""
        return f"{self.task}/{self.id}"


def check_cases(cases: Sequence[Case], data: Path) -> None:
    """Refuse a list of cases whose predictions could not be told apart, or that is empty.

    Args:
        cases: What a benchmark found.
        data: Where it looked.

    Raises:
        InputError: There are none, an id is used twice, or an id is no file name.
    """
    if not cases:
        raise InputError(f"{data}: holds nothing to evaluate; check the folder and the options")
    seen: set[str] = set()
    for case in cases:
        if case.id in ("", ".", "..") or "/" in case.id or "\\" in case.id or case.id.startswith("."):
            raise InputError(f"{data}: the id {case.id!r} cannot name a prediction's file; rename it")
        if case.name in seen:
            raise InputError(f"{data}: two cases are called {case.name}; rename one of them")
        seen.add(case.name)


def data_hash(cases: Iterable[Case]) -> str:
    """A hash of the data list: tasks, ids, texts, and the names and sizes of the files, independent of where they are.

    Args:
        cases: All cases of a run.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for case in cases:
        files = [(file.name, file.stat().st_size if file.is_file() else None) for file in case.files]
        digest.update(repr((case.task, case.id, case.kind, case.text, case.num_targets, files)).encode())
    return digest.hexdigest()[:16]


def draws(name: str) -> np.random.Generator:
    """The source of whatever is drawn for a case, such as the width of a trimap's band: the same in every run."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def flat(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Layers ``(H, W, 4)`` from back to front as one picture of floats in [0, 1]."""
    return reduce(lambda back, front: over(unit_floats(front), back), layers[1:], unit_floats(layers[0]))
