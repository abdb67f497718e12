"""Stage 12: the finished data set as a folder to hand on: shards, and a card that says what they are and how made.

Two passes over the manifest. The first only asks how large files are, so that shards can be named "…-of-00007" and the
card can count; the second writes. Neither holds more than a few megabytes of pictures.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from omnialpha.alphalayers.card import dataset_card
from omnialpha.alphalayers.contents import Part, count
from omnialpha.alphalayers.finished import Finished, read_finished
from omnialpha.alphalayers.plan import read_plan
from omnialpha.alphalayers.shards import ParquetShard, Shard, TarShard
from omnialpha.errors import InputError, OutputError, nearest
from omnialpha.imaging.files import atomic_folder

FORMATS: Mapping[str, tuple[str, Callable[[Path], Shard]]] = {
    "parquet": ("parquet", ParquetShard),
    "webdataset": ("tar", TarShard),
}
"""Name to suffix and writer."""

SHARD_MB = 500
"""Size of a shard, in 10⁶ bytes, by default: what the hub's own exports have."""

_CARD = "README.md"
_MEGABYTE = 10**6


def publish(
    out: Path,
    destination: Path | None = None,
    *,
    format: str = "parquet",
    shard_mb: int = SHARD_MB,
    overwrite: bool = False,
) -> Path:
    """Write a build's data set as a folder that `datasets.load_dataset` reads, with its card.

    The same build gives the same bytes.

    Args:
        out: Folder of the build.
        destination: Folder to write, by default `published` in that of the build; it appears when it is complete.
        format: "parquet" or "webdataset".
        shard_mb: Most bytes of pictures in a file, in millions; a larger sample gets a file of its own.
        overwrite: Replace an earlier publication. Any other folder is left alone.

    Returns:
        The folder.

    Raises:
        InputError: An unknown format, or the build is not finished.
        OutputError: The folder exists, or cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    if format not in FORMATS:
        raise InputError(f'unknown format "{format}"{nearest(format, FORMATS)}; formats: {", ".join(FORMATS)}')
    destination = destination or out / "published"
    _check_free(destination, overwrite=overwrite)
    contents = count(out, shard_mb * _MEGABYTE)
    if not contents.parts:
        raise InputError(f"{out}: nothing was left to publish; `omnialpha data status {out}` says what was dropped")
    suffix, shard = FORMATS[format]
    with atomic_folder(destination) as folder:
        (folder / "data").mkdir()
        _write_shards(out, folder / "data", contents.parts, suffix, shard)
        size = sum(file.stat().st_size for file in (folder / "data").iterdir())
        card = dataset_card(contents, *read_plan(out), format=format, suffix=suffix, download_size=size)
        (folder / _CARD).write_text(card, encoding="utf-8")
    return destination


def _write_shards(
    out: Path, folder: Path, parts: Mapping[str, Part], suffix: str, make: Callable[[Path], Shard]
) -> None:
    """The second pass."""
    with ExitStack() as stack:
        streams = {
            split: stack.enter_context(_Split(folder, split, part, suffix, make)) for split, part in parts.items()
        }
        for each in read_finished(out):
            streams[each.sample.split].add(each)


class _Split:
    """The shards of a split, one open at a time."""

    def __init__(self, folder: Path, split: str, part: Part, suffix: str, make: Callable[[Path], Shard]) -> None:
        total = len(part.shards)
        self._files = [folder / f"{split}-{index:05d}-of-{total:05d}.{suffix}" for index in range(total)]
        self._sizes = list(part.shards)
        self._make = make
        self._left = 0
        self._open = ExitStack()

    def __enter__(self) -> "_Split":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]

    def add(self, sample: Finished) -> None:
        if self._left == 0:
            self._open.close()
            self._shard = self._open.enter_context(self._make(self._files.pop(0)))
            self._left = self._sizes.pop(0)
        self._shard.add(sample)
        self._left -= 1


def _check_free(destination: Path, *, overwrite: bool) -> None:
    """Refuse to replace a folder that was not published by this."""
    if not destination.exists():
        return
    if not (destination / _CARD).is_file() or not (destination / "data").is_dir():
        raise OutputError(f"{destination}: exists already and is no published data set; choose another folder")
    if not overwrite:
        raise OutputError(f"{destination}: exists already; choose another folder or overwrite it (--overwrite)")
