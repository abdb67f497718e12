"""The manifest: one line of JSON per sample, which says where its layers are, what they show and where they come from.

Training, dataset construction and evaluation meet here. A line looks like this (one line in the file; `id` and
`foregrounds` are required, the rest may be left out):

    {"id": "kite-12", "foregrounds": ["fg/kite-12.png"], "captions": ["a red kite"],
     "background": "bg/kite-12.jpg", "background_caption": "a beach in the evening",
     "composite": "image/kite-12.jpg", "composite_caption": "a red kite over a beach",
     "split": "train", "source": "my photographs", "licence": "CC-BY-4.0", "score": 0.012}

Foregrounds are RGBA cut-outs in FRONT TO BACK order, each as large as the whole picture. Paths are relative to the
manifest's folder. A caption that is not known is "".
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.data.buckets import Size, fit
from omnialpha.data.checks import check_files, is_opaque, wrong_size
from omnialpha.data.scenes import Scene, caption_whole, composite_over
from omnialpha.errors import ImageError, InputError, nearest
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The layers of one picture as files.

    Attributes:
        id: unique in its manifest.
        foregrounds: RGBA cut-outs, front to back, all of the same size; at least one.
        background: what is behind them, complete and opaque; None when it is not known.
        composite: the whole picture, opaque; None when it is to be composed from the layers.
        captions: one per foreground, "" where it is not known.
        background_caption: what the background shows.
        composite_caption: what the whole picture shows.
        split: "train", "test" or another part of the data.
        source: where it comes from.
        licence: on what terms.
        score: quality, lower is better (Appendix B); None when it was not scored.
        identity: of the object; samples of one identity are on one side of a split. "" when it is not known.
        stages: of a sample that `omnialpha data build` made: stage to the key of its record in the build's store.
    """

    id: str
    foregrounds: tuple[Path, ...]
    background: Path | None = None
    composite: Path | None = None
    captions: tuple[str, ...] = ()
    background_caption: str = ""
    composite_caption: str = ""
    split: str = "train"
    source: str = ""
    licence: str = ""
    score: float | None = None
    identity: str = ""
    stages: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.foregrounds:
            raise InputError(f"sample {self.id!r} has no foregrounds; list at least one cut-out")
        if not self.captions:
            object.__setattr__(self, "captions", ("",) * len(self.foregrounds))
        if len(self.captions) != len(self.foregrounds):
            raise InputError(
                f"sample {self.id!r} has {len(self.captions)} captions for {len(self.foregrounds)} foregrounds; "
                'give one each, "" where it is not known'
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files: foregrounds, then background and composite where there are any."""
        return self.foregrounds + self.opaque

    @property
    def opaque(self) -> tuple[Path, ...]:
        """The files without transparency: background and composite where there are any."""
        return tuple(file for file in (self.background, self.composite) if file is not None)


__all__ = ["Sample", "check_files", "iterate_manifest", "read_manifest", "read_scene", "write_manifest"]

_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))
_PATHS = ("foregrounds", "background", "composite")


def read_manifest(file: str | Path) -> list[Sample]:
    """Read a manifest; the pictures themselves are not opened (see :func:`check_files`).

    Args:
        file: JSONL, as the module describes it.

    Returns:
        The samples in the order of the file, with paths joined to the manifest's folder.

    Raises:
        InputError: the file is missing or holds no sample, or a line is wrong: the message names file and line.
    """
    samples = list(iterate_manifest(file))
    if not samples:
        raise InputError(f"{file}: holds no samples; write one JSON object per line")
    return samples


def iterate_manifest(file: str | Path) -> Iterator[Sample]:
    """Read a manifest one sample at a time: for those who need not hold all of it.

    Args:
        file: as for :func:`read_manifest`.

    Yields:
        The samples in the order of the file; none for an empty one.

    Raises:
        InputError: the file is missing or a line is wrong: the message names file and line.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: no such manifest; give a JSONL file with one sample per line")
    seen: dict[str, int] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                sample = _parse(line, file.parent)
            except (InputError, json.JSONDecodeError) as error:
                raise InputError(f"{file}, line {number}: {error}") from error
            if sample.id in seen:
                raise InputError(
                    f"{file}, line {number}: id {sample.id!r} stands in line {seen[sample.id]} too; change one"
                )
            seen[sample.id] = number
            yield sample


def write_manifest(samples: Iterable[Sample], file: str | Path) -> None:
    """Write a manifest atomically, replacing an older one.

    Fields at their default are left out and keys are sorted, so that equal samples give equal bytes.

    Args:
        samples: in the order in which they are to stand; taken one at a time.
        file: their paths are written relative to its folder.

    Raises:
        OutputError: it cannot be written.
    """
    folder = Path(file).parent
    with atomic_write(file, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for sample in samples:
            stream.write(json.dumps(_record(sample, folder), sort_keys=True, ensure_ascii=False) + "\n")


def read_scene(sample: Sample, size: Size) -> Scene:
    """Read a sample's layers at one size, so that any task's example can be made from it.

    The pictures are scaled to cover the size and cropped around the centre, all alike. A composite that the sample
    does not bring is composed from the layers, over white where there is no background either.

    Args:
        sample: with all files of one size.
        size: (width, height) in pixels.

    Returns:
        The scene; its background is None when the sample has none.

    Raises:
        ImageError: a file cannot be read, or is not opaque where it has to be.
        InputError: files differ in size.
    """
    pictures = {file: rgba.read(file) for file in sample.files}
    expected = pictures[sample.files[0]].size
    for file, picture in pictures.items():
        if picture.size != expected:
            raise InputError(f"{sample.id}: {wrong_size(file, picture.size, expected)}")
    layers = {file: fit(picture, size) for file, picture in pictures.items()}
    for file in sample.opaque:
        if not is_opaque(pictures[file]):
            raise ImageError(f"{sample.id}: {file} has transparent pixels; it has to be opaque")
    foregrounds = tuple(layers[file] for file in sample.foregrounds)
    background = None if sample.background is None else layers[sample.background]
    if sample.composite is not None:
        composite = layers[sample.composite]
    else:
        composite = np.ones_like(foregrounds[0]) if background is None else background
        for layer in reversed(foregrounds):
            composite = composite_over(layer, composite)
    return Scene(
        foregrounds=foregrounds,
        background=background,
        composite=composite,
        captions=sample.captions,
        background_caption=sample.background_caption,
        composite_caption=sample.composite_caption or caption_whole(sample.captions, sample.background_caption),
    )


def parse_record(line: str, fields: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a line.

    Args:
        line: one line of a JSONL file.
        fields: those that it may have.

    Raises:
        InputError: it is no object, or has a field that nobody knows.
        json.JSONDecodeError: it is no JSON.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise InputError(f"expected a JSON object, found {type(record).__name__}")
    for name in record:
        if name not in fields:
            raise InputError(f"unknown field {name!r}{nearest(name, fields)}; fields: {', '.join(fields)}")
    return record


def _parse(line: str, folder: Path) -> Sample:
    """One line of a manifest."""
    record = parse_record(line, _FIELDS)
    values: dict[str, Any] = {}
    for name, value in record.items():
        if value is None and name in ("background", "composite", "score"):
            continue
        expected = "a list of texts" if name in ("foregrounds", "captions") else "a text"
        fits = isinstance(value, str)
        if expected == "a list of texts":
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
            value = tuple(value) if fits else value
        elif name == "score":
            expected, fits = "a number", isinstance(value, int | float) and not isinstance(value, bool)
        elif name == "stages":
            expected, fits = (
                "texts by name",
                isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
            )
        if not fits:
            raise InputError(f"{name}: expected {expected}, found {value!r}")
        if name in _PATHS:
            value = tuple(folder / item for item in value) if isinstance(value, tuple) else folder / value
        values[name] = value
    for name in ("id", "foregrounds"):
        if not values.get(name):
            raise InputError(f"{name} is missing or empty; every sample needs it")
    return Sample(**values)


def _record(sample: Sample, folder: Path) -> dict[str, Any]:
    """A sample as the JSON object of its line, without fields that say nothing."""

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    record: dict[str, Any] = {
        field.name: getattr(sample, field.name)
        for field in dataclasses.fields(sample)
        if field.default is dataclasses.MISSING or getattr(sample, field.name) != field.default
    }
    for name in _PATHS:
        if name in record:
            value = record[name]
            record[name] = [relative(path) for path in value] if isinstance(value, tuple) else relative(value)
    for name in ("captions", "stages"):
        if not any(record[name]):
            del record[name]
    return record
