"""Data sets whose entries are listed in a file or numbered: RefMatte-RW100, Crello, PhotoMatte85, package corpora."""

import json
import logging
from pathlib import Path
from typing import Any

from omnialpha.data.sources.listing import contents, misfit, pictures, read_json, some
from omnialpha.data.sources.record import Record
from omnialpha.errors import InputError

logger = logging.getLogger(__name__)

_EXPRESSIONS = 4


def refmatte_rw100(root: Path) -> list[Record]:
    """RefMatte-RW100: photographs with several objects, each with a matte and four expressions.

    Args:
        root: Folder with `image/<image>.jpg`, `mask/<image>_<k>.png`, `refmatte_rw100_label.json` and, if it is to be
            scored as its authors do, `eval_index_expression.json`.

    Returns:
        A record per mask, its expressions as captions in the order of the file.

    Raises:
        InputError: The tree or the annotations do not fit.
    """
    labels_file, index_file = root / "refmatte_rw100_label.json", root / "eval_index_expression.json"
    if not (labels_file.is_file() and (root / "image").is_dir() and (root / "mask").is_dir()):
        raise misfit(root, "refmatte_rw100", f"image/, mask/ and {labels_file.name}")
    labels = read_json(labels_file)
    index = read_json(index_file) if index_file.is_file() else None
    if index is None:
        logger.warning("%s: no %s, so its official choice of expressions is unknown", root, index_file.name)
    images, masks = pictures(root / "image"), pictures(root / "mask")
    missing = [stem for stem in labels if stem not in masks]
    if missing:
        raise InputError(
            f"{root}: {len(missing)} of {len(labels)} entries of {labels_file.name} have no picture in mask/ "
            f"({some(missing)}); complete the download"
        )
    unlisted = [stem for stem in masks if stem not in labels]
    if unlisted:
        logger.warning("%s: %d masks are not in %s (%s)", root, len(unlisted), labels_file.name, some(unlisted))
    records = []
    for stem in sorted(labels):
        name, expressions = _label(labels_file, stem, labels[stem])
        if name not in images:
            raise InputError(f"{labels_file}: {stem} is about {name}, which is not in image/; complete the download")
        records.append(
            Record(
                id=stem,
                source="refmatte_rw100",
                split="test",
                composite=images[name],
                alpha=masks[stem],
                captions=expressions,
                official_caption=None if index is None else _official(index_file, index, stem, name),
            )
        )
    return records


def _label(file: Path, stem: str, label: Any) -> tuple[str, tuple[str, ...]]:
    """Stem of the photograph and the expressions of an entry."""
    try:
        name, expressions = Path(label["image_name"]).stem, tuple(str(text) for text in label["expressions"])
    except (KeyError, TypeError) as error:
        raise InputError(f'{file}: {stem} has no "image_name" or no "expressions"; download it again') from error
    if len(expressions) != _EXPRESSIONS:
        raise InputError(f"{file}: {stem} has {len(expressions)} expressions, not {_EXPRESSIONS}; download it again")
    return name, expressions


def _official(file: Path, index: Any, stem: str, name: str) -> int:
    """Position of the expression that the official evaluation uses; the file is keyed by mask or by photograph."""
    stems = {Path(key).stem: value for key, value in index.items()}
    value = stems.get(stem, stems.get(name))
    if not isinstance(value, int) or not 0 <= value < _EXPRESSIONS:
        raise InputError(
            f"{file}: has {value!r} for {stem}, not a number from 0 to {_EXPRESSIONS - 1}; download it again"
        )
    return value


def crello(root: Path) -> list[Record]:
    """Crello as LayerD evaluates it: `layers/<id>/0000.png, 0001.png, …` from back to front.

    Args:
        root: Folder with layers/.

    Raises:
        InputError: The tree does not fit, or a number is missing.
    """
    place = root / "layers"
    folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    if not folders:
        raise misfit(root, "crello", "layers/<id>/0000.png, 0001.png, …")
    records = []
    for folder in folders:
        layers = pictures(folder)
        if not layers or list(layers) != [f"{number:04d}" for number in range(len(layers))]:
            raise InputError(f"{folder}: crello needs 0000.png, 0001.png, … without gaps; found {contents(folder)}")
        records.append(Record(id=folder.name, source="crello", split="test", layers=tuple(layers.values())))
    return records


def photomatte85(root: Path) -> list[Record]:
    """PhotoMatte85: RGBA pictures in one folder.

    Args:
        root: The folder.

    Raises:
        InputError: There are no pictures in it.
    """
    found = pictures(root) if root.is_dir() else {}
    if not found:
        raise misfit(root, "photomatte85", "RGBA pictures (*.png)")
    return [Record(id=stem, source="photomatte85", split="test", foreground=path) for stem, path in found.items()]


def corpus(root: Path) -> list[Record]:
    """The cut-outs of a corpus made by `omnialpha.data.corpora`.

    Args:
        root: Folder with `index.jsonl`.

    Raises:
        InputError: There is no index.
    """
    index = root / "index.jsonl"
    if not index.is_file():
        raise misfit(root, "corpus", "index.jsonl, as `python -m omnialpha.data.corpora` writes it")
    entries = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    return [
        Record(
            id=entry["id"].replace("/", "-"),
            source="corpus",
            split=entry["split"],
            foreground=root / entry["path"],
            captions=(entry["caption"],),
            licence=entry["licence"],
            identity=entry["object"],
        )
        for entry in entries
        if entry["kind"] == "foreground"
    ]
