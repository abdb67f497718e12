"""What a finished build has in it, counted in one pass: the plan of its shards and the numbers on its card."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omnialpha.alphalayers.finished import read_dropped, read_finished

_REASONS = 40  # rows that people still read


@dataclass
class Part:
    """A split, as far as it has been counted.

    Attributes:
        samples: How many it has.
        bytes: Of its pictures.
        shards: How many samples each shard gets.
    """

    samples: int = 0
    bytes: int = 0
    shards: list[int] = field(default_factory=list)


@dataclass
class Contents:
    """What there is.

    Attributes:
        parts: Split to what it has, in the order in which they first occur.
        scores: Of all samples that have one.
        origins: How many samples come from each source with each licence.
        dropped: How many candidates each stage left out for each reason, without the particulars.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    origins: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def samples(self) -> int:
        """How many there are in all splits."""
        return sum(part.samples for part in self.parts.values())


def count(out: Path, shard_bytes: int) -> Contents:
    """Count a build, asking its pictures for nothing but their size.

    Args:
        out: Folder of the build.
        shard_bytes: Most bytes of pictures in a shard; a larger sample gets one of its own.

    Raises:
        InputError: The build is not finished.
    """
    contents = Contents()
    room: dict[str, int] = {}
    for each in read_finished(out):
        split = each.sample.split
        part = contents.parts.setdefault(split, Part())
        size = sum(file.stat().st_size for file in each.pictures.values())
        if not part.shards or size > room[split]:
            part.shards.append(0)
            room[split] = shard_bytes
        room[split] -= size
        part.shards[-1] += 1
        part.samples += 1
        part.bytes += size
        contents.origins[each.sample.source, each.sample.licence] += 1
        if each.sample.score is not None:
            contents.scores.append(each.sample.score)
    contents.dropped = reasons(out)
    return contents


def reasons(out: Path) -> Counter[tuple[str, str]]:
    """How many candidates each stage left out for each reason.

    Args:
        out: Folder of the build.

    Returns:
        Stage and reason to a number. Particulars, which stand after a colon ("too small: 40 pixels, at least 64"), are
        left out; of what failed in many ways only the most frequent are told apart.
    """
    counts = Counter((each.stage, each.reason.partition(":")[0]) for each in read_dropped(out))
    for (stage, reason), count in by_count(counts)[_REASONS:]:
        del counts[stage, reason]
        counts[stage, "other reasons"] += count
    return counts


def by_count(counts: Mapping[tuple[str, str], int]) -> list[tuple[tuple[str, str], int]]:
    """The most frequent first, equal ones by name.

    >>> by_count({("a", "b"): 1, ("c", "d"): 2, ("a", "a"): 1})
    [(('c', 'd'), 2), (('a', 'a'), 1), (('a', 'b'), 1)]
    """
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
