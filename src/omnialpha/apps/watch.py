"""Watch a folder: every picture that appears in it is done once, and again when it changes.

A picture counts as written when it is the same at two looks; one that cannot be read all the same is reported and
tried again when it changes. A result that is there and newer than its picture is not made again, so a watch that was
stopped goes on where it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from omnialpha.apps import batch
from omnialpha.apps.jobs import Job, pictures_in
from omnialpha.apps.loading import Model
from omnialpha.apps.settings import Settings
from omnialpha.apps.targets import plan
from omnialpha.errors import InputError


def watch(
    folder: Path, out: Path, make_job: Callable[[Path], Job], settings: Settings, *, every: float, once: bool
) -> None:
    """Do what appears in a folder until interrupted.

    Args:
        folder: Where pictures appear. Folders inside it are not looked into.
        out: Where results go, by the names that a batch gives them.
        make_job: From a picture to what is to be done with it.
        settings: Those of a batch, without an output.
        every: Seconds between two looks.
        once: End when everything that is there is done.

    Raises:
        InputError: A folder is missing or is both, or another output is given.
        CheckpointError: The model cannot be loaded.
        typer.Exit: Code 1 at the end of `once`, when some pictures failed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; make it first")
    if folder.resolve() == out.resolve():
        raise InputError(f"{out}: results would be taken for new pictures; give another folder")
    if settings.output is not None:
        raise InputError("--output contradicts the folder OUT; leave it out")
    found = _Folder(folder)
    worker = _Worker(out, make_job, settings)
    try:
        while True:
            for picture in found.settled():
                worker.do(picture, again=found.again(picture))
                found.finish(picture)
            if once and not found.waiting():
                break
            time.sleep(every)
    except KeyboardInterrupt:  # the usual end of a watch
        pass
    typer.echo(f"{worker.done} done, {worker.failed} failed", err=True)
    if once and worker.failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Version:
    """What changes when a file is written to."""

    size: int
    time_ns: int


class _Folder:
    """What is in a folder, and which versions of it are finished with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, _Version] = {}
        self._finished: dict[Path, _Version] = {}

    def settled(self) -> list[Path]:
        """Look again: the pictures to do, which have not changed since the last look."""
        before, self._seen = self._seen, {}
        for picture in pictures_in(self._folder):
            try:
                status = picture.stat()
            except FileNotFoundError:  # taken away between the two calls
                continue
            self._seen[picture] = _Version(status.st_size, status.st_mtime_ns)
        return [picture for picture in self._unfinished() if before.get(picture) == self._seen[picture]]

    def waiting(self) -> bool:
        """Whether some pictures are neither finished nor empty: an empty one may stay so for ever."""
        return any(self._seen[picture].size for picture in self._unfinished())

    def again(self, picture: Path) -> bool:
        """Whether another version of it was finished."""
        return picture in self._finished

    def finish(self, picture: Path) -> None:
        """Leave this version alone from now on."""
        self._finished[picture] = self._seen[picture]

    def _unfinished(self) -> list[Path]:
        return [picture for picture, version in self._seen.items() if self._finished.get(picture) != version]


class _Worker:
    """Does one picture after the other with one model, which is loaded for the first."""

    def __init__(self, out: Path, make_job: Callable[[Path], Job], settings: Settings) -> None:
        self._make_job = make_job
        self._settings = replace(settings, output=f"{out}/", overwrite=True)
        self._model = Model(settings, steps_shown=False)
        self._owners: dict[Path, Path] = {}
        self.done = 0
        self.failed = 0
        batch.show_notes(quiet=True)

    def do(self, picture: Path, *, again: bool) -> None:
        """Make the result of a picture, unless it is there; say what came of it."""
        job = self._make_job(picture)
        (target,) = plan([job], self._settings)
        report = batch.Report()
        if (owner := self._owners.setdefault(target, picture)) != picture:
            error = f"{picture}: {target} is the result of {owner.name}; rename one of the two"
            report.failures.append({"input": str(picture), "error": error})
        elif not again and target.exists() and target.stat().st_mtime_ns >= picture.stat().st_mtime_ns:
            return
        else:
            batch.attempt([(job, target)], self._model, self._settings, report)
        self.done += len(report.results)
        self.failed += len(report.failures)
        batch.show(report, self._settings)
