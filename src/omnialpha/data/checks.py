"""Opening every picture of a data set before anything is trained on it, and saying all that is wrong at once."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from PIL import Image

from omnialpha.data.buckets import Size
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging import rgba

logger = logging.getLogger(__name__)

READERS = 4  # pictures decoded at once while checking: decoders release Python's lock


class Filed(Protocol):
    """Anything made of picture files of one size: a `Sample`, or a line of the authors' JSONL."""

    @property
    def id(self) -> str:
        """Its name in messages."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files."""

    @property
    def opaque(self) -> tuple[Path, ...]:
        """Those that may have no transparent pixels."""


AnyFiled = TypeVar("AnyFiled", bound=Filed)


def check_files(samples: Sequence[Filed]) -> list[str]:
    """Open every file of the samples and list everything that is wrong with them.

    Args:
        samples: any number; each file is decoded once (about 20 ms per megapixel and core).

    Returns:
        One line per problem, beginning with the sample's id: a file missing or unreadable, a layer of another size
        than the sample's first file, a background or composite that is not opaque. Empty when all is well.
    """
    return list(chain.from_iterable(_check(samples)))


def usable(samples: Sequence[AnyFiled], *, skip_broken: bool) -> list[AnyFiled]:
    """Open every file before the first step, so that no run dies of a bad file in its night.

    Args:
        samples: of a manifest or of the authors' data.
        skip_broken: leave broken samples out, logging how many and why, instead of refusing.

    Returns:
        The samples without anything wrong, in their order.

    Raises:
        InputError: something is wrong and `skip_broken` is off (the message lists all of it), or nothing is usable.
    """
    found = list(_check(samples))
    problems = [problem for each in found for problem in each]
    good = [sample for sample, each in zip(samples, found, strict=True) if not each]
    if problems and (not skip_broken or not good):
        remedy = "mend them, or skip them (skip_broken=True, --skip-broken)" if good else "there is nothing to train on"
        listed = "\n  ".join(problems)
        raise InputError(f"{len(samples) - len(good)} of {len(samples)} samples are broken; {remedy}:\n  {listed}")
    for problem in problems:
        logger.warning("%s", problem)
    if problems:
        logger.warning("%d of %d samples are broken and skipped", len(samples) - len(good), len(samples))
    return good


def _check(samples: Sequence[Filed]) -> Iterator[list[str]]:
    """What is wrong with each sample."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(_problems, samples)


def _problems(sample: Filed) -> list[str]:
    """What is wrong with the files of one sample."""
    problems: list[str] = []
    size: Size | None = None
    for file in sample.files:
        try:
            picture = rgba.read(file)
        except ImageError as error:
            problems.append(f"{sample.id}: {error}")
            continue
        size = size or picture.size
        if picture.size != size:
            problems.append(f"{sample.id}: {wrong_size(file, picture.size, size)}")
        elif file in sample.opaque and not is_opaque(picture):
            problems.append(f"{sample.id}: {file} has transparent pixels; it has to be opaque")
    return problems


def wrong_size(file: Path, found: Size, expected: Size) -> str:
    """The message for a picture of another size than the others of its sample."""
    return (
        f"{file} has {found[0]}×{found[1]} pixels, the sample's first file {expected[0]}×{expected[1]}; "
        "all pictures of a sample have to be of one size"
    )


def is_opaque(picture: Image.Image) -> bool:
    """Whether an "RGBA" image has no transparent pixel."""
    return picture.getchannel("A").getextrema() == (255, 255)
