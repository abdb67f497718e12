"""Pairs of results to choose between: the folder that the VLM judge and the human study read.

A folder holds `pairs.jsonl`, one case per line (one line in the file), with paths relative to the folder:

    {"id": "0001", "task": "foreground_to_composite", "text": "a red kite over a beach", "condition": "in/0001.png",
     "candidates": {"ours": "ours/0001.png", "LayerDiffuse": "theirs/0001.png"}}

Every case has the same two candidates in the same order; wins are those of the first. `condition` is the picture that
both methods were given; it may be left out where there was none.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnialpha.data.manifest import parse_record
from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write

FILE = "pairs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One case to judge.

    Attributes:
        id: Unique in its folder.
        task: Id of the task that both methods carried out.
        text: The caption that both were given.
        candidates: Name of a method to its result; two of them, the one whose wins are counted first.
        condition: The picture that both were given; None where there was none.
    """

    id: str
    task: str
    text: str
    candidates: Mapping[str, Path]
    condition: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All its pictures: the candidates, then the condition where there is one."""
        return (*self.candidates.values(), *([] if self.condition is None else [self.condition]))


_FIELDS = ("id", "task", "text", "candidates", "condition")


def read_pairs(folder: str | Path) -> list[Pair]:
    """Read a folder of pairs; the pictures must exist but are not opened.

    Args:
        folder: Where `pairs.jsonl` is.

    Returns:
        The cases in the order of the file.

    Raises:
        InputError: The file is missing or empty, or a line is wrong: the message names file and line.
    """
    folder = Path(folder)
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{file}: no such file; write one line per case as docs/evaluation.md describes")
    pairs: list[Pair] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pair = _parse(line, folder)
            _check_among(pair, pairs)
        except (InputError, json.JSONDecodeError) as error:
            raise InputError(f"{file}, line {number}: {error}") from error
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{file}: holds no cases; write one JSON object per line")
    return pairs


def write_pairs(pairs: Sequence[Pair], folder: str | Path) -> None:
    """Write `pairs.jsonl`, replacing an older one; the pictures are in the folder already.

    Args:
        pairs: In the order in which they are to stand.
        folder: Holds the pictures.

    Raises:
        InputError: A picture is outside the folder.
        OutputError: The file cannot be written.
    """
    folder = Path(folder)
    lines = [json.dumps(_record(pair, folder), ensure_ascii=False) + "\n" for pair in pairs]
    with atomic_write(folder / FILE, overwrite=True) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def pairs_hash(pairs: Iterable[Pair]) -> str:
    """Hash of everything that is judged: ids, tasks, texts, names and the content of the pictures.

    Args:
        pairs: All cases.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for pair in pairs:
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in pair.files]
        digest.update(repr((pair.id, pair.task, pair.text, list(pair.candidates), contents)).encode())
    return digest.hexdigest()[:16]


def _parse(line: str, folder: Path) -> Pair:
    """One line of `pairs.jsonl`."""
    record = parse_record(line, _FIELDS)
    for name in ("id", "task", "text"):
        if not isinstance(record.get(name), str) or not record[name].strip():
            raise InputError(f"{name}: expected a text, found {record.get(name)!r}")
    candidates = record.get("candidates")
    if not isinstance(candidates, dict) or len(candidates) != 2 or "tie" in candidates:
        raise InputError('candidates: expected two methods with a picture each, none of them called "tie"')
    condition = record.get("condition")
    return Pair(
        id=record["id"],
        task=record["task"],
        text=record["text"],
        candidates={name: _picture(file, folder) for name, file in candidates.items()},
        condition=None if condition is None else _picture(condition, folder),
    )


def _picture(name: Any, folder: Path) -> Path:
    if not isinstance(name, str) or not (folder / name).is_file():
        raise InputError(f"{name!r} is no file in {folder}; give paths relative to it")
    return folder / name


def _check_among(pair: Pair, earlier: Sequence[Pair]) -> None:
    """A case against those before it."""
    if any(pair.id == other.id for other in earlier):
        raise InputError(f"id {pair.id!r} stands in an earlier line too; change one")
    if earlier and list(pair.candidates) != list(earlier[0].candidates):
        expected, found = (" and ".join(each.candidates) for each in (earlier[0], pair))
        raise InputError(f"expected the candidates {expected} in this order, as before, found {found}")


def _record(pair: Pair, folder: Path) -> dict[str, Any]:
    """A case as the JSON object of its line."""

    def inside(file: Path) -> str:
        if not file.is_relative_to(folder):
            raise InputError(f"{file}: is outside {folder}; copy it there first")
        return file.relative_to(folder).as_posix()

    record: dict[str, Any] = {"id": pair.id, "task": pair.task, "text": pair.text}
    if pair.condition is not None:
        record["condition"] = inside(pair.condition)
    return {**record, "candidates": {name: inside(file) for name, file in pair.candidates.items()}}
