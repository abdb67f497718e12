"""Files on disk: opening them with checks that explain themselves, writing them so that no half file is ever seen.

Every reader of pictures and layered files goes through ``opened`` and ``explained``; every writer through
``atomic_write`` (one file) or ``atomic_folder`` (a folder of files).
"""

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import BinaryIO

from omnialpha.errors import ImageError, OmniAlphaError, OutputError

logger = getLogger(__name__)

Source = str | os.PathLike[str] | BinaryIO

_TEMPORARY = ".omnialpha-"  # how files begin that are not complete yet


@contextmanager
def opened(source: Source) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file for reading, or pass an open one through.

    Args:
        source: A path, or a seekable binary file, which stays open.

    Yields:
        The binary file and the name to use for it in messages.

    Raises:
        ImageError: The path is missing, empty, a folder, not a regular file, or may not be read.
    """
    if not isinstance(source, str | os.PathLike):
        yield source, str(getattr(source, "name", "the image"))
        return
    path = Path(source)
    try:
        if not path.exists():
            raise ImageError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise ImageError(f"{path}: is a folder where a file was expected; give a file inside it")
        if not path.is_file():  # reading a pipe or a device could wait for ever
            raise ImageError(f"{path}: is not a regular file; copy its content to a file first")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: is empty (0 bytes); export or download it again")
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({_reason(error)}); check its permissions") from error
    with stream:
        yield stream, str(path)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever a decoder makes of broken bytes into one line that names the file.

    Warnings of the decoders are logged instead of being printed (or, read in several threads at once, printed).

    Args:
        name: The file, for the message.

    Raises:
        ImageError: Anything went wrong inside the block.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            logger.warning("%s: %s", name, warning.message)
    except OmniAlphaError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: there is not enough memory to read it; make it smaller first") from error
    except Exception as error:  # broken bytes lead decoders to nearly every exception there is
        raise ImageError(
            f"{name}: cannot be read ({_reason(error)}); it is damaged or incomplete, export or download it again"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, without a path that the message has named already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file that appears under its final name only when it is complete and on disk.

    The caller writes to a hidden sibling; leaving the block flushes it to disk and renames it. After an error the
    sibling is deleted; a killed process leaves it behind, named ``.omnialpha-*``, and the final name untouched.

    Args:
        path: The final file. Its folder is made when it does not exist.
        overwrite: Replace an existing file.

    Yields:
        The temporary path, with the suffix of ``path``.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    final = Path(path)
    with _writing(final):
        if final.exists() and not final.is_file():
            raise OutputError(f"{final}: is a folder or a device where a file was expected; give a file name")
        if final.exists() and not overwrite:
            raise OutputError(
                f"{final}: exists already; choose another name or overwrite it (overwrite=True, --overwrite)"
            )
        temporary = _temporary_sibling(final)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_names(final.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a folder that appears under its final name only when all its files are complete and on disk.

    An existing folder is replaced: whoever calls decides whether that is allowed. Two renames do it, so a process
    killed right between them leaves the old folder and the new one, both whole, under ``.omnialpha-*`` names.

    Args:
        path: The final folder. Its parent is made when it does not exist.

    Yields:
        The temporary folder, which exists and is empty; it may get folders inside.

    Raises:
        OutputError: The folder cannot be written.
    """
    final = Path(path)
    with _writing(final):
        temporary, replaced = _temporary_sibling(final), _temporary_sibling(final)
        try:
            temporary.mkdir()
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                (_flush_names if entry.is_dir() else _flush)(entry)
            if final.exists():
                final.rename(replaced)
            try:
                temporary.rename(final)
            except OSError:
                if replaced.exists():
                    replaced.rename(final)
                raise
        finally:
            for folder in (temporary, replaced):
                if folder.exists():
                    shutil.rmtree(folder)
        _flush_names(final.parent)


def link(file: Path, place: Path) -> None:
    """Let a file appear under a second name, replacing what was there; copy it where links are not possible.

    Args:
        file: Must not be changed in place afterwards: both names are the same file.
        place: The second name. Its folder is made when it does not exist.

    Raises:
        OutputError: It cannot be written.
    """
    if place.exists() and place.samefile(file):
        return
    with _writing(place):
        temporary = _temporary_sibling(place)
        try:
            os.link(file, temporary)
        except OSError:  # another file system, or one without links
            with atomic_write(place, overwrite=True) as copy:
                shutil.copyfile(file, copy)
        else:
            temporary.replace(place)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes have left half written in a folder and its sub-folders.

    Args:
        folder: Nobody may be writing in it.
    """
    for leftover in [*folder.rglob(f"{_TEMPORARY}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)  # it may have gone with its folder


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which file could not be written and what to do."""
    try:
        yield
    except OmniAlphaError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({_reason(error)}); free some space or choose another folder"
        ) from error


def _temporary_sibling(final: Path) -> Path:
    """A free hidden name beside ``final``: renaming is atomic only within one file system."""
    final.parent.mkdir(parents=True, exist_ok=True)
    return final.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}{final.suffix}")


def _flush(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def _flush_names(folder: Path) -> None:
    """Wait until the names inside a folder are on disk, where the system lets a folder be flushed.

    Windows and some network file systems do not; a crash of the machine may then undo a rename, but never half of it.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        logger.debug("%s: cannot be flushed (%s)", folder, error)
        return
    try:
        os.fsync(handle)
    except OSError as error:
        logger.debug("%s: cannot be flushed (%s)", folder, error)
    finally:
        os.close(handle)
