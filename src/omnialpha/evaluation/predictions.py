"""Folders of predictions: written by this harness or by any other method.

A prediction is called after its case. A folder for several tasks has one folder per task inside:

    matting_auto/o_0a1b.png            a matte or a cut-out: grey, RGBA, or a NumPy array (.npy)
    removal_precise_mask/7.jpg         an opaque picture
    decomposition_auto/7/0000.png …    layers from back to front; or 7.psd, 7.ora

Whatever else lies there is listed in the report as extra.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.evaluation.cases import Case, flat
from omnialpha.evaluation.pictures import (
    STACK_SUFFIXES,
    SUFFIXES,
    Note,
    read_layers,
    read_matte,
    read_rgb,
    read_rgba,
)
from omnialpha.evaluation.scoring import Prediction
from omnialpha.imaging.files import atomic_folder
from omnialpha.imaging.rgba import save_png, to_pil


class Predictions:
    """The predictions in a folder.

    Args:
        folder: Where they are.
        cases: All cases of the benchmark.

    """

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        tasks = sorted({case.task for case in cases})
        self._folders = {task: folder / task for task in tasks}
        if len(tasks) == 1 and not (folder / tasks[0]).is_dir():
            self._folders = {tasks[0]: folder}
        self._found: dict[str, list[Path]] = {}
        for task, place in self._folders.items():
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                if path.is_dir() or path.suffix.lower() in (*SUFFIXES, *STACK_SUFFIXES):
                    name = path.name if path.is_dir() else path.stem
                    self._found.setdefault(f"{task}/{name}", []).append(path)
        self._root = folder

    def require_any(self, cases: Sequence[Case]) -> None:
        """Refuse a folder that cannot be meant.

        Raises:
            InputError: It is missing, or holds none of the predictions.
        """
        if not self._root.is_dir():
            raise InputError(f"{self._root}: is no folder; give the folder that holds the predictions")
        if not any(case.name in self._found for case in cases):
            example = self._folders[cases[0].task] / f"{cases[0].id}{'/' if cases[0].kind == 'layers' else '.png'}"
            raise InputError(f"{self._root}: holds none of the {len(cases)} predictions; expected names like {example}")

    def get(self, case: Case) -> Path | None:
        """The prediction of a case, None where it is missing or not the only one."""
        paths = self._found.get(case.name, [])
        return paths[0] if len(paths) == 1 else None

    def find(self, case: Case) -> Path:
        """The prediction of a case.

        Raises:
            InputError: It is missing, or there are several.
        """
        paths = self._found.get(case.name, [])
        if len(paths) == 1:
            return paths[0]
        if paths:
            raise InputError(f"{case.name}: {' and '.join(path.name for path in paths)} are both there; keep one")
        raise InputError(f"{case.name}: the prediction is missing; expected {self._folders[case.task] / case.id}.*")

    def extra(self, cases: Iterable[Case]) -> list[str]:
        """Whatever lies in the folders and belongs to no case, relative to the root; hidden files are left out.

        Args:
            cases: All cases of the benchmark, also those that a limit leaves out.
        """
        known = {case.name for case in cases}
        extra = []
        for task, place in self._folders.items():
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                name = f"{task}/{path.name if path.is_dir() else path.stem}"
                if not path.name.startswith(".") and (name not in known or path not in self._found.get(name, [])):
                    extra.append(path.relative_to(self._root).as_posix())
        if self._root not in self._folders.values():
            used = {place.name for place in self._folders.values()}
            extra += [p.name for p in sorted(self._root.iterdir()) if p.name not in used and p.name[0] != "."]
        return extra


def read_prediction(path: Path, case: Case, note: Note) -> Prediction:
    """Read a prediction as the kind of thing that its case expects.

    Args:
        path: File, or folder of layers.
        case: Its case.
        note: Receives what was converted.

    Returns:
        ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, or a list of layers from back to front.

    Raises:
        ImageError: It cannot be read, holds NaN, or is another kind of thing.
    """
    stacked = path.is_dir() or path.suffix.lower() in STACK_SUFFIXES
    if stacked or case.kind == "layers":
        if not stacked:
            note("prediction: one picture where layers were expected, taken as a stack of one")
            return [read_rgba(path, note, kind="prediction")]
        layers = read_layers(path, note, kind="prediction")
        if case.kind == "layers":
            return layers
        note("prediction: layers where one picture was expected, the matching layer is used")
        return _chosen(layers, case)
    if case.kind == "matte":
        return read_matte(path, note, kind="prediction")
    return (read_rgb if case.kind == "picture" else read_rgba)(path, note, kind="prediction")


def write_prediction(layers: Sequence[Image.Image], case: Case, folder: Path) -> Path:
    """Write what a method returned, atomically, replacing an older prediction.

    Args:
        layers: "RGBA", back to front.
        case: Its case.
        folder: Root of the predictions.

    Returns:
        The file, or the folder of layers. Of layers only that which the case scores is written.
    """
    place = folder / case.task / case.id
    if case.kind == "layers":
        with atomic_folder(place) as temporary:
            for index, layer in enumerate(layers):
                save_png(layer, temporary / f"{index:04}.png")
        return place
    file = place.with_name(f"{case.id}.png")
    arrays = [np.asarray(layer) for layer in layers]
    chosen = to_pil(flat(arrays)) if case.kind == "generated" and len(arrays) > 1 else None
    save_png(chosen or layers[0 if case.kind == "picture" else -1], file, overwrite=True)
    return file


def _chosen(layers: list[np.ndarray], case: Case) -> np.ndarray:
    """The layer that a case is about: of a removal the background, of a cut-out the front."""
    if case.kind == "generated":
        return flat(layers)
    layer = layers[0 if case.kind == "picture" else -1]
    return {"matte": layer[..., 3], "picture": layer[..., :3]}.get(case.kind, layer)
