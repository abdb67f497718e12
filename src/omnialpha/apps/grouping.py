"""Which jobs share a call of the model: those of one task and of equal sizes, as long as they are small together."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings

CALL_PIXELS = 2 * 1024 * 1024
"""Pixels of all pictures and results of a call: one picture of 1024² with one result, or the more the smaller."""

WAITING = 64
"""Jobs that wait for others of their kind. Only small ones wait, so their pictures take little memory."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A job whose pictures have been read.

    Attributes:
        job: What to do.
        target: Where the result goes.
        pictures: The "RGBA" inputs.
    """

    job: Job
    target: Path
    pictures: list[Image.Image]

    @property
    def kind(self) -> Hashable:
        """What the jobs of one call have in common."""
        sizes = tuple(picture.size for picture in self.pictures)
        return self.job.task.id, self.job.num_targets, self.job.text is None, sizes

    def fitting(self, settings: Settings) -> int:
        """How many jobs of this kind one call takes."""
        if settings.batch is not None or not self.pictures:
            return settings.batch or 1
        inputs = [width * height for width, height in (picture.size for picture in self.pictures)]
        result = inputs[0] if settings.width is None or settings.height is None else settings.width * settings.height
        return max(1, CALL_PIXELS // (sum(inputs) + result * self.job.task.num_targets(self.job.num_targets)))


def grouped(jobs: Iterable[Ready], settings: Settings) -> Iterator[list[Ready]]:
    """Put jobs of a kind together.

    Args:
        jobs: In their order; taken one at a time.
        settings: `batch`, or the size of the results, limits the groups.

    Yields:
        A group when it is full, the group that began first when too many jobs wait, and what is left at the end.
    """
    waiting: dict[Hashable, list[Ready]] = {}
    for job in jobs:
        group = waiting.setdefault(job.kind, [])
        group.append(job)
        if len(group) >= job.fitting(settings):
            yield waiting.pop(job.kind)
        elif sum(map(len, waiting.values())) >= WAITING:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
