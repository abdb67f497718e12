"""Pictures through standard input and output, so that a command can stand in a pipe of other programs."""

import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from omnialpha.apps import batch
from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings
from omnialpha.apps.targets import plan
from omnialpha.errors import InputError


@contextmanager
def pictures(images: Sequence[Path] | None, *, stdin: bool) -> Iterator[Sequence[Path]]:
    """The pictures of a command: those named, or the one that comes through standard input.

    Args:
        images: Files and folders.
        stdin: Read standard input to its end.

    Yields:
        The files; what came through the pipe is one called ``stdin`` while the block lasts.

    Raises:
        InputError: Both are given or none is, or standard input is a terminal.
    """
    if bool(images) == stdin:
        raise InputError("expected either IMAGE… (files or folders) or --stdin")
    if not stdin:
        yield images or ()
        return
    if sys.stdin.isatty():
        raise InputError(
            "--stdin reads a picture, but standard input is a terminal; pipe one in: … --stdin < photo.jpg"
        )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "stdin"
        with file.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield [file]


def run_to_stdout(jobs: Sequence[Job], settings: Settings) -> None:
    """Do one job and write its file to standard output; everything that is said goes to standard error.

    Args:
        jobs: One job.
        settings: `format` chooses the kind of file: by default a PNG for one layer, a PSD for several.

    Raises:
        InputError: There are several results, another place for them is given, or standard output is a terminal.
        typer.Exit: Code 1, after a report, when the job failed; nothing is written then.
    """
    if len(jobs) != 1:
        raise InputError(f"--stdout takes one result, not {len(jobs)}; write them to a folder with -o FOLDER/")
    if settings.output is not None or settings.json:
        raise InputError("--stdout writes the result itself; leave --output and --json out")
    if sys.stdout.isatty():
        raise InputError("--stdout writes a picture, but standard output is a terminal; add > FILE or a pipe")
    with TemporaryDirectory() as folder:
        settings = replace(settings, output=f"{folder}/")
        (target,) = plan(jobs, settings)
        if not target.suffix:
            raise InputError("--stdout: several layers as PNGs are a folder; choose another --format, such as psd")
        with redirect_stdout(io.StringIO()):  # where the result lies is of no use to anybody
            batch.run(jobs, settings)
        with target.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
