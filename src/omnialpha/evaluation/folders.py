"""Any data set laid out as folders of files with the same names: `omnialpha eval folder`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omnialpha.errors import InputError, nearest
from omnialpha.evaluation.cases import Case, Content, Kind
from omnialpha.evaluation.pictures import (
    STACK_SUFFIXES,
    Note,
    picture_files,
    read_layers,
    read_matte,
    read_rgb,
    read_rgba,
    read_trimap,
)
from omnialpha.imaging.rgba import to_pil
from omnialpha.tasks import task as find_task

TASKS_OF_KIND: dict[str, tuple[Kind, str]] = {
    "matte": ("matte", "matting_auto"),
    "cutout": ("cutout", "matting_auto"),
    "picture": ("picture", "removal_auto"),
    "layers": ("layers", "decomposition_auto"),
}
"""What the targets are, to how they are scored and the task that a model runs."""


def folder(data: Path, *, kind: str = "matte", images: Path | None = None, trimaps: Path | None = None) -> list[Case]:
    """Folders of your own: targets, and beside them inputs and trimaps with the same names.

    Args:
        data: Folder of targets: pictures; for layers, folders of pictures from back to front, PSD or OpenRaster files.
        kind: What the targets are: "matte", "cutout", "picture" or "layers".
        images: Folder of inputs with the targets' names; needed to run a model, and for layers.
        trimaps: Folder of trimaps with the targets' names.

    Raises:
        InputError: Another kind, a folder is missing, or an input has no file.
    """
    if kind not in TASKS_OF_KIND:
        raise InputError(f'the kind is {", ".join(TASKS_OF_KIND)}, not "{kind}"{nearest(kind, TASKS_OF_KIND)}')
    if kind == "layers" and images is None:
        raise InputError("layers are compared with the picture they were taken from; give the folder of images")
    for path in (data, images, trimaps):
        if path is not None and not path.is_dir():
            raise InputError(f"{path}: is no folder; give one")
    scored_as, task = TASKS_OF_KIND[kind]
    cases = []
    for target in _stacks(data) if kind == "layers" else picture_files(data):
        image, trimap = (None if other is None else _same_name(other, target) for other in (images, trimaps))
        cases.append(
            Case(
                id=target.stem,
                task=task,
                kind=scored_as,
                num_targets=max(2, len(picture_files(target))) if target.is_dir() else find_task(task).num_targets(),
                files=tuple(file for file in (target, image, trimap) if file is not None and not file.is_dir()),
                read=partial(_read, target, image, trimap, scored_as),
            )
        )
    return cases


def _read(target: Path, image: Path | None, trimap: Path | None, kind: Kind, note: Note) -> Content:
    readers: dict[str, Callable[..., Any]] = {
        "matte": read_matte,
        "cutout": read_rgba,
        "picture": read_rgb,
        "layers": read_layers,
    }
    return Content(
        images=() if image is None else (to_pil(read_rgba(image, note, kind="input")),),
        target=readers[kind](target, note, kind="target"),
        trimap=None if trimap is None else read_trimap(trimap),
    )


def _stacks(data: Path) -> list[Path]:
    return sorted(p for p in data.iterdir() if (p.is_dir() or p.suffix.lower() in STACK_SUFFIXES) and p.name[0] != ".")


def _same_name(folder: Path, target: Path) -> Path:
    found = [file for file in picture_files(folder) if file.stem == target.stem]
    if len(found) != 1:
        raise InputError(f"{folder}: has {len(found) or 'no'} pictures named {target.stem}; give one for each target")
    return found[0]
