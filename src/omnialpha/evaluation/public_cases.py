"""Cases of the public data sets, read through `data.sources`: mattes, scenes with and without objects, designs."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.data.examples import guide_picture
from omnialpha.data.sources import Cell, Picture, Record, read_source, stream
from omnialpha.errors import InputError, nearest
from omnialpha.evaluation.cases import Case, Content, draws, flat
from omnialpha.evaluation.pictures import Note, over_white, read_matte, read_rgb, read_rgba, read_trimap
from omnialpha.imaging.rgba import to_pil
from omnialpha.tasks import task as find_task

logger = logging.getLogger(__name__)

EXPRESSIONS = ("official", "last", "all")
MATTING = ("matting_auto", "matting_trimap", "matting_alpha", "matting_precise_mask", "matting_rough_mask")
ERASING = tuple(f"{c}_{g}" for c in ("removal", "decomposition") for g in ("precise_mask", "rough_mask", "auto"))


def aim500(data: Path, *, task: str = "matting_auto") -> list[Case]:
    """AIM-500, alpha mattes of 500 photographs (Table 5).

    Args:
        data: Folder with ``original/``, ``mask/``, ``trimap/``.
        task: A matting task; guides come from ``trimap/`` or are made from the true alpha.

    Raises:
        InputError: Another task or layout.
    """
    _one_of(task, MATTING, "the task of AIM-500")
    return [_matte_case(record, record.id, task) for record in read_source("aim500", data)]


def refmatte_rw100(data: Path, *, expressions: str = "official") -> list[Case]:
    """RefMatte-RW100, mattes of what a text refers to (Table 4).

    Args:
        data: Folder with ``image/``, ``mask/`` and ``refmatte_rw100_label.json``.
        expressions: Which of the four expressions of an object is the text: the one that
            ``eval_index_expression.json`` names ("official"), the "last", or "all", each a case of its own named
            ``<object>_e0`` … ``_e3``.

    Raises:
        InputError: Another choice or layout, or the official index is missing.
    """
    _one_of(expressions, EXPRESSIONS, "the expression of RefMatte-RW100")
    cases = []
    for record in read_source("refmatte_rw100", data):
        numbers = {"last": [len(record.captions) - 1], "all": list(range(len(record.captions)))}.get(expressions)
        if numbers is None:
            if record.official_caption is None:
                raise InputError(
                    f"{data}: names no official expression for {record.id}; "
                    "add eval_index_expression.json, or choose last or all"
                )
            numbers = [record.official_caption]
        for number in numbers:
            name = f"{record.id}_e{number}" if expressions == "all" else record.id
            cases.append(_matte_case(record, name, "matting_text", text=record.captions[number]))
    return cases


def rord(data: Path, *, task: str = "removal_precise_mask") -> list[Case]:
    """RORD, backgrounds behind removed objects (Table 6), its test split.

    Args:
        data: Folder with ``test/img``, ``test/gt`` and ``test/mask``, or with ``val/`` where there is no test split.
        task: A removal task, or a decomposition task, of which only the background counts.

    Raises:
        InputError: Another task or layout.
    """
    return _erasing_cases("rord", data, task)


def ober(data: Path, *, task: str = "removal_precise_mask") -> list[Case]:
    """OBER (ObjectClear), backgrounds behind removed objects and their shadows, its test split; choices as for RORD.

    Pictures without a true background (OBER-Wild) are left out.

    Args:
        data: Folder of parquet files.
        task: See `rord`.

    Raises:
        InputError: Another task or layout.
    """
    return _erasing_cases("ober", data, task)


def crello_layers(data: Path) -> list[Case]:
    """Crello in LayerD's layout, designs to be taken apart.

    Args:
        data: Folder with ``layers/<id>/0000.png`` … from back to front.

    Raises:
        InputError: Another layout.
    """
    return [
        Case(
            id=record.id,
            task="decomposition_auto",
            kind="layers",
            num_targets=max(2, len(record.layers)),
            files=_files(*record.layers),
            read=partial(_read_design, record),
        )
        for record in read_source("crello", data)
    ]


def aim500_captions(data: Path, captions: Path | None) -> list[Case]:
    """Text to transparent image (Table 2): FID against a reference set, CLIP-Score with the text.

    Args:
        data: A manifest, whose test split's cut-outs and captions are used; or AIM-500's folder.
        captions: For AIM-500, which has none: JSON of ``{"<stem>": "caption"}``.

    Raises:
        InputError: A caption is missing, or the layout is another one.
    """
    if captions is None:
        raise InputError(f"{data}: AIM-500 has no captions; give a JSON file of {{stem: caption}}, or use a manifest")
    texts = json.loads(captions.read_text(encoding="utf-8"))
    cases = []
    for record in read_source("aim500", data):
        if not str(texts.get(record.id, "")).strip():
            raise InputError(f"{captions}: has no caption for {record.id}; add it")
        content = partial(_read_photo_cutout, record)
        files = _files(record.composite, record.alpha)
        case = Case(
            id=record.id, task="text_to_image", kind="generated", text=texts[record.id], files=files, read=content
        )
        cases.append(case)
    return cases


def _one_of(value: str, allowed: Sequence[str], name: str) -> None:
    if value not in allowed:
        raise InputError(f'{name} is one of {", ".join(allowed)}, not "{value}"{nearest(value, allowed)}')


def _files(*pictures: Picture | None) -> tuple[Path, ...]:
    return tuple(p.file if isinstance(p, Cell) else p for p in pictures if p is not None)


def _pixels(picture: Picture | None, record: Record, what: str) -> Any:
    if picture is None:
        raise InputError(f"{record.source}: {record.id} has no {what}; complete the data set")
    return stream(picture)


def _matte_case(record: Record, name: str, task: str, text: str | None = None) -> Case:
    files = _files(record.composite, record.alpha, record.trimap)
    return Case(id=name, task=task, kind="matte", text=text, files=files, read=partial(_read_matte_case, record, task))


def _read_matte_case(record: Record, task: str, note: Note) -> Content:
    alpha = read_matte(_pixels(record.alpha, record, "alpha"), note, kind="target")
    trimap = None if record.trimap is None else read_trimap(stream(record.trimap))
    images = [to_pil(read_rgba(_pixels(record.composite, record, "image"), note, kind="input"))]
    for slot in find_task(task).inputs[1:]:
        values = alpha / 255 if alpha.dtype == np.uint8 else alpha
        if slot == "trimap" and trimap is not None:
            images.append(to_pil(trimap))
        else:
            images.append(to_pil(guide_picture(values, slot, draws(record.id))))
    return Content(images=tuple(images), target=alpha, trimap=trimap)


def _erasing_cases(source: str, data: Path, task: str) -> list[Case]:
    _one_of(task, ERASING, f"the task of {source}")
    records = read_source(source, data, _test_split(source, data))
    known = [record for record in records if record.background is not None]
    if len(known) < len(records):
        logger.warning("%s: %d pictures have no true background and are left out", data, len(records) - len(known))
    num_targets = find_task(task).num_targets()
    return [
        Case(
            id=record.id,
            task=task,
            kind="picture",
            num_targets=num_targets,
            files=_files(record.composite, record.background, record.mask),
            read=partial(_read_erasing, record, task),
        )
        for record in known
    ]


def _test_split(source: str, data: Path) -> str:
    """RORD is published with and without its test split."""
    return "val" if source == "rord" and not (data / "test").is_dir() and (data / "val").is_dir() else "test"


def _read_erasing(record: Record, task: str, note: Note) -> Content:
    images = [to_pil(read_rgba(_pixels(record.composite, record, "image"), note, kind="input"))]
    if len(find_task(task).inputs) > 1:
        mask = read_matte(_pixels(record.mask, record, "mask"), note, kind="target")
        mask = 255 * (mask >= (128 if mask.dtype == np.uint8 else 0.5))
        images.append(to_pil((255 - mask if record.mask_inverted else mask).astype(np.uint8)))
    target = read_rgb(_pixels(record.background, record, "background"), note, kind="target")
    return Content(images=tuple(images), target=target)


def _read_design(record: Record, note: Note) -> Content:
    layers = [read_rgba(stream(layer), note, kind="target") for layer in record.layers]
    return Content(images=(to_pil(over_white(flat(layers))),), target=layers)


def _read_photo_cutout(record: Record, note: Note) -> Content:
    photo = read_rgba(_pixels(record.composite, record, "image"), note, kind="target")
    alpha = read_matte(_pixels(record.alpha, record, "alpha"), note, kind="target")
    cutout = np.asarray(to_pil(photo)).copy()
    cutout[..., 3] = np.asarray(to_pil(alpha))[..., 0]
    return Content(images=(), target=cutout)
