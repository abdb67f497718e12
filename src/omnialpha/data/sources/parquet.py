"""Data sets published as parquet files: OBER (object removal with its effects) and PrismLayers (layered pictures).

Listing reads the small columns only; the bytes of a picture are read when it is opened.
"""

import functools
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

from omnialpha.data.sources.listing import misfit
from omnialpha.data.sources.record import Box, Cell, Record
from omnialpha.errors import ImageError, InputError
from omnialpha.extras import require

_EXTRA = "parquet"


def ober(root: Path) -> list[Record]:
    """OBER, columns `input, gt, object_mask, object_effect_mask, subset, split`; OBER-Wild has no `gt`.

    Args:
        root: Folder of the parquet files, or the one above it ("data/").

    Raises:
        InputError: There are no such files, or a column is missing.
        MissingExtraError: pyarrow is not installed.
    """
    records = []
    seen: Counter[str] = Counter()
    for file in _files(root, "ober", ("input", "gt", "object_mask", "subset", "split")):
        rows = _small_columns(file, ["input.path", "gt.path", "subset", "split"])
        for row, values in enumerate(rows):
            name = Path((values["input"] or {}).get("path") or f"{file.stem}-{row}").stem
            key = _safe(f"{values['subset']}-{name}")
            seen[key] += 1
            records.append(
                Record(
                    id=key if seen[key] == 1 else f"{key}-{seen[key]}",
                    source="ober",
                    split=str(values["split"]).lower(),
                    composite=Cell(file=file, row=row, column="input"),
                    background=None if values["gt"] is None else Cell(file=file, row=row, column="gt"),
                    mask=Cell(file=file, row=row, column="object_mask"),
                )
            )
    return sorted(records, key=lambda record: record.id)  # the order of the files means nothing


def prismlayers(root: Path) -> list[Record]:
    """PrismLayers: a base image and layers cut to their boxes, with captions.

    Its columns are `whole_image, whole_caption, base_image, base_caption, layer_count` and, numbered from 00,
    `layer_NN, layer_NN_caption, layer_NN_box`.

    Args:
        root: Folder of the parquet files, or the one above it ("data/").

    Raises:
        InputError: There are no such files, or a column is missing.
        MissingExtraError: pyarrow is not installed.
    """
    records = []
    for file in _files(root, "prismlayers", ("whole_image", "base_image", "layer_count")):
        names = _columns(file)
        small = [n for n in names if re.fullmatch(r"layer_count|\w+_caption|layer_\d+_box", n)]
        split = re.sub(r"-\d+-of-\d+$", "", file.stem)
        for row, values in enumerate(_small_columns(file, small)):
            layers = [f"layer_{number:02d}" for number in range(values["layer_count"] or 0)]
            cells = [Cell(file=file, row=row, column=column) for column in ("base_image", *layers)]
            records.append(
                Record(
                    id=_safe(f"{file.stem}-{row:05d}"),
                    source="prismlayers",
                    split=split,
                    composite=Cell(file=file, row=row, column="whole_image"),
                    layers=tuple(cells),
                    boxes=(None, *(_box(values.get(f"{layer}_box")) for layer in layers)),
                    captions=tuple(values.get(f"{layer}_caption") or "" for layer in layers),
                    background_caption=values.get("base_caption") or "",
                    composite_caption=values.get("whole_caption") or "",
                )
            )
    return records


class _NamedBytes(io.BytesIO):
    """Bytes with the name that errors call them by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def open_cell(cell: Cell) -> io.BytesIO:
    """The encoded bytes of a picture in a parquet file.

    Args:
        cell: Where it is.

    Raises:
        ImageError: The cell is empty.
        MissingExtraError: pyarrow is not installed.
    """
    start, column = _chunk(cell.file, _row_group(cell.file, cell.row), cell.column)
    value = column[cell.row - start].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise ImageError(f"{cell}: holds no picture; download the file again, or leave the entry out")
    return _NamedBytes(data, str(cell))


def _row_group(file: Path, row: int) -> int:
    starts = _row_group_starts(file)
    return max(index for index, start in enumerate(starts) if start <= row)


@functools.lru_cache(maxsize=256)
def _row_group_starts(file: Path) -> tuple[int, ...]:
    metadata = require("pyarrow.parquet", _EXTRA).ParquetFile(file).metadata
    counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    return tuple(sum(counts[:index]) for index in range(len(counts)))


# A parquet file is read in whole row groups, usually a hundred pictures of a column: entries are read in order, so the
# last few are kept. More would cost gigabytes.
@functools.lru_cache(maxsize=4)
def _chunk(file: Path, group: int, column: str) -> tuple[int, Any]:
    table = require("pyarrow.parquet", _EXTRA).ParquetFile(file).read_row_group(group, columns=[column])
    return _row_group_starts(file)[group], table[column]


def _files(root: Path, source: str, columns: tuple[str, ...]) -> list[Path]:
    """The parquet files of a data set, all of which have some columns."""
    files = sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))
    if not files:
        raise misfit(root, source, "*.parquet files, in it or in data/")
    for file in files:
        missing = [column for column in columns if column not in _columns(file)]
        if missing:
            found = ", ".join(_columns(file))
            raise InputError(
                f"{file}: {source} needs the columns {', '.join(missing)}; found {found}; give that data set's files"
            )
    return files


def _columns(file: Path) -> list[str]:
    names: list[str] = require("pyarrow.parquet", _EXTRA).read_schema(file).names
    return names


def _small_columns(file: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of some columns; "input.path" reads that field of the pictures without their bytes."""
    # Not `read_table`, which takes such a field out of its column, so that a missing picture looks like any other.
    rows: list[dict[str, Any]] = require("pyarrow.parquet", _EXTRA).ParquetFile(file).read(columns=columns).to_pylist()
    return rows


def _box(value: list[int] | None) -> Box | None:
    return None if value is None else (int(value[0]), int(value[1]), int(value[2]), int(value[3]))


def _safe(name: str) -> str:
    """Keep what may stand in a file name everywhere."""
    return re.sub(r"[^\w.-]+", "-", name)
