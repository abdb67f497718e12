"""The authors' training data, read as it is: JSONL files of instructions and pictures, and the .jsonc that mixes them.

A data file has one object per line (or is one JSON array of them):

    {"id": "7", "prompt": "…", "input_images": ["in/7.png"], "output_images": ["out/7_bg.png", "out/7_fg.png"]}

Several outputs are in the order of the released weights: the background first, then foregrounds back to front.
The listing names data files and puts splits together from parts of them; comments and trailing commas are allowed:

    {
        "datasets": {
            "matting": {"data_path": "matting.jsonl", "image_dir": "matting"},   // data_path may be a list
        },
        "splits": {
            "train": [{"dataset": "matting", "ends": -50, "repeat": 2, "weight": 0.5}],
            "valid": [{"dataset": "matting", "starts": -50}],
        },
    }

`starts` and `ends` cut like a Python slice, `sample` ({"ratio": 0.1} or {"count": 100}, "seed") takes some at random,
`repeat` takes each that often, `weight` is the weight of each line. Paths are relative to the listing.
"""

import json
import logging
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.data.buckets import Size, bucket_size, fit, picture_size
from omnialpha.data.examples import Example
from omnialpha.data.loader import Group
from omnialpha.errors import InputError, nearest
from omnialpha.imaging import rgba

logger = logging.getLogger(__name__)

_STRING_OR_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STRING_OR_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')

_SECTIONS = ("default_init_params", "datasets", "splits")
_SIZING = ("max_pixels", "multiple_of", "square_center_crop", "force_size")  # replaced by buckets of our own
_OPTIONS = ("class", "data_path", "image_dir", "begin_with_bg", "debug_config", *_SIZING)
_PART = ("dataset", "starts", "ends", "sample", "repeat", "weight", "begin_with_bg")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a data file.

    Attributes:
        id: data set and line, or the line's own id.
        dataset: its name in the listing.
        prompt: the instruction.
        inputs: input pictures.
        targets: target layers in Table 1's order: foregrounds front to back, then the background.
        weight: how often it is drawn, relative to other lines.
    """

    id: str
    dataset: str
    prompt: str
    inputs: tuple[Path, ...]
    targets: tuple[Path, ...]
    weight: float = 1.0

    @property
    def files(self) -> tuple[Path, ...]:
        """All its pictures."""
        return self.inputs + self.targets

    @property
    def opaque(self) -> tuple[Path, ...]:
        """None has to be opaque: the data do not say what a picture is."""
        return ()


def read_listing(file: str | Path, split: str = "train") -> list[Entry]:
    """Read a split of a listing.

    Sizes set for the authors' software (`max_pixels`, `force_size` and the like) are not used, which is logged: here
    sizes come from buckets. `begin_with_bg`, which only their reward computation reads, is passed over.

    Args:
        file: the .jsonc file.
        split: which split.

    Returns:
        The lines of the split, in order, a repeated line as often as it is repeated.

    Raises:
        InputError: a file is missing or wrong; the message names file and place.
    """
    file = Path(file)
    try:
        listing = parse_jsonc(_text(file))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: {error}") from error
    _know(listing, _SECTIONS, f"{file}")
    datasets, splits = (_mapping(listing.get(name, {}), f"{file}, {name}") for name in ("datasets", "splits"))
    if split not in splits:
        raise InputError(f"{file}: no split {split!r}{nearest(split, splits)}; splits: {', '.join(splits) or 'none'}")
    defaults = _mapping(listing.get("default_init_params", {}), f"{file}, default_init_params")
    read: dict[str, list[Entry]] = {}
    entries: list[Entry] = []
    for number, part in enumerate(splits[split]):
        where = f"{file}, splits, {split}[{number}]"
        name = _know(part, _PART, where).get("dataset")
        if name not in datasets:
            raise InputError(f"{where}: unknown dataset {name!r}{nearest(str(name), datasets)}")
        if name not in read:
            options = defaults | _mapping(datasets[name], f"{file}, datasets, {name}")
            read[name] = _read_dataset(file, name, options)
        entries += _take(read[name], part, where)
    if not entries:
        raise InputError(f"{file}: split {split!r} has no lines; check starts and ends")
    return entries


def parse_jsonc(text: str) -> Any:
    """Parse JSON with // and /* */ comments and trailing commas.

    >>> parse_jsonc('{"a": ["x // y", 2,], /* b */ } // c')
    {'a': ['x // y', 2]}
    """
    without_comments = _STRING_OR_COMMENT.sub(lambda match: match[1] or " ", text)
    return json.loads(_STRING_OR_COMMA.sub(lambda match: match[1] or "", without_comments))


def entry_groups(entries: Sequence[Entry], *, area: int, grid: int) -> list[Group[Example]]:
    """The lines of a listing as groups of a size and structure, for `omnialpha.data.loader.draw_batch`.

    Args:
        entries: checked by `omnialpha.data.checks.usable`; only headers are read here.
        area: most pixels of a picture, see `omnialpha.data.buckets.bucket_size`.
        grid: widths and heights are multiples of this.

    Raises:
        ImageError: a file is not a picture.
    """
    kinds: dict[tuple[Size, int, int, float], list[Entry]] = defaultdict(list)
    for entry in entries:
        size = bucket_size(picture_size(entry.targets[0]), area=area, grid=grid)
        # Lines of other weights are kept apart: within a group all are drawn alike.
        kinds[size, len(entry.inputs), len(entry.targets), entry.weight].append(entry)

    def draw(members: Sequence[Entry], size: Size, item: int, _: np.random.Generator) -> Example:
        entry = members[item]
        return Example(
            task=entry.dataset,
            inputs=tuple(fit(rgba.read(file), size) for file in entry.inputs),
            targets=tuple(fit(rgba.read(file), size) for file in entry.targets),
            prompt=entry.prompt,
            caption=None,
        )

    return [
        Group(
            size=size,
            num_inputs=n,
            num_targets=m,
            weight=weight * len(members),
            items=[member.id for member in members],
            draw=partial(draw, members, size),
        )
        for (size, n, m, weight), members in kinds.items()
        if weight > 0
    ]


def _read_dataset(listing: Path, name: str, options: Mapping[str, Any]) -> list[Entry]:
    """All lines of a data set."""
    where = f"{listing}, datasets, {name}"
    _know(options, _OPTIONS, where)
    if options.get("class", "TI2IDataset") != "TI2IDataset":
        raise InputError(f"{where}: only the class TI2IDataset is known, found {options['class']!r}; leave it out")
    for option in _SIZING:
        if options.get(option):
            logger.info("%s: %s is not used; sizes come from buckets", where, option)
    for option in ("data_path", "image_dir"):
        if not options.get(option):
            raise InputError(f"{where}: {option} is missing; it tells where the data are")
    images = listing.parent / options["image_dir"]
    paths = options["data_path"]
    entries: list[Entry] = []
    for path in [paths] if isinstance(paths, str) else paths:
        file = listing.parent / path
        for place, record in _records(file):
            entries.append(_entry(record, name, images, f"{file}, {place}", f"{name}/{len(entries)}"))
    return entries


def _records(file: Path) -> list[tuple[str, Any]]:
    """The objects of a .jsonl or .json file, with their places."""
    text = _text(file)
    try:
        if file.suffix == ".json":
            return [(f"item {number}", record) for number, record in enumerate(json.loads(text))]
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: {error}") from error
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                records.append((f"line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise InputError(f"{file}, line {number}: {error}") from error
    return records


def _entry(record: Any, dataset: str, images: Path, where: str, fallback: str) -> Entry:
    """One line of a data file; fields beyond the known ones are notes and passed over."""
    _mapping(record, where)
    if not isinstance(record.get("prompt"), str):
        raise InputError(f"{where}: prompt is a text, found {record.get('prompt')!r}")
    for field in ("input_images", "output_images"):
        value = record.get(field)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where}: {field} is a list of paths, found {value!r}")
    if not record["output_images"]:
        raise InputError(f"{where}: output_images is empty; there is nothing to learn from it")
    return Entry(
        id=str(record.get("id", fallback)),
        dataset=dataset,
        prompt=record["prompt"],
        inputs=tuple(images / path for path in record["input_images"]),
        targets=tuple(images / path for path in reversed(record["output_images"])),
    )


def _take(entries: Sequence[Entry], part: Mapping[str, Any], where: str) -> list[Entry]:
    """The part of a data set that an item of a split asks for."""
    for option in ("starts", "ends", "repeat"):
        if not isinstance(part.get(option, 0), int):
            raise InputError(f"{where}: {option} is a whole number, found {part[option]!r}")
    weight = part.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise InputError(f"{where}: weight is a number of 0 or more, found {weight!r}")
    taken = list(entries[part.get("starts") : part.get("ends")])
    if sample := part.get("sample"):
        _know(sample, ("ratio", "count", "seed"), f"{where}, sample")
        count = int(len(taken) * sample["ratio"]) if "ratio" in sample else sample.get("count", len(taken))
        # A listing without a seed would otherwise give other data to a resumed run.
        taken = random.Random(sample.get("seed", 0)).sample(taken, min(count, len(taken)))
    return [Entry(**{**vars(entry), "weight": float(weight)}) for entry in taken for _ in range(part.get("repeat", 1))]


def _text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file}: no such file; check the path")
    return file.read_text(encoding="utf-8")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _know(value: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """The value as an object of which all names are known."""
    for name in _mapping(value, where):
        if name not in names:
            raise InputError(f"{where}: unknown field {name!r}{nearest(name, names)}; fields: {', '.join(names)}")
    return value
