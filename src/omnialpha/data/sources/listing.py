"""Look at a folder tree without opening a picture, and say in one line what does not fit."""

import json
import logging
from pathlib import Path
from typing import Any

from omnialpha.errors import InputError

logger = logging.getLogger(__name__)

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})


def misfit(root: Path, source: str, expected: str) -> InputError:
    """The error for a tree of another shape.

    Args:
        root: The folder given.
        source: Name of the data set.
        expected: What should be in it.
    """
    return InputError(f"{root}: {source} needs {expected}; found {contents(root)}; give the folder that holds them")


def contents(folder: Path) -> str:
    """What is in a folder, in a few words."""
    if not folder.is_dir():
        return "no such folder" if not folder.exists() else "a file"
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more if names else "nothing"


def pictures(folder: Path) -> dict[str, Path]:
    """The pictures of a folder, sorted by name; other files are logged, hidden ones ignored.

    Args:
        folder: Its sub-folders are not looked into.

    Returns:
        Stem to path.

    Raises:
        InputError: Two pictures differ only in their suffix.
    """
    found: dict[str, Path] = {}
    strays = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in _SUFFIXES:
            strays.append(path.name)
        elif path.stem in found:
            raise InputError(f'{folder}: two pictures are called "{path.stem}"; keep one of {found[path.stem]}, {path}')
        else:
            found[path.stem] = path
    strays = [name for name in strays if not (name.endswith(".txt") and Path(name).stem in found)]  # captions
    if strays:
        logger.warning("%s: %d files are no pictures and are left out (%s)", folder, len(strays), some(strays))
    return found


def some(names: list[str]) -> str:
    """The first few names of a list.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c, …'
    """
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def read_json(path: Path) -> Any:
    """Read an annotation file.

    Raises:
        InputError: It is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); download it again") from error
