"""The results of all visits in one store with a limit on memory: the oldest make room for new ones."""

import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from omnialpha.apps.server.jobs import Work
from omnialpha.apps.studio.arrange import Rows, arrange, rows_of
from omnialpha.apps.studio.view import shrunk
from omnialpha.errors import InputError
from omnialpha.imaging.layers import LayerStack

MAX_PIXELS = 256_000_000
"""Pixels of all layers kept, four bytes each: 1 GB."""


def new_key() -> str:
    """An id for a result that is to come."""
    return secrets.token_hex(16)


@dataclass(kw_only=True)
class Entry:
    """One result.

    Attributes:
        work: What was asked for.
        images: Files that went in.
        stack: What came out, as it was made.
        seconds: How long it took.
        key: Its id, which cannot be guessed.
        rows: How the layers are arranged now.
        small: The stack at the size that is shown.
    """

    work: Work
    images: tuple[Path, ...]
    stack: LayerStack
    seconds: float
    key: str = field(default_factory=new_key)
    rows: Rows = field(init=False)
    small: LayerStack = field(init=False)

    def __post_init__(self) -> None:
        self.rows = rows_of(self.stack)
        self.small = shrunk(self.stack)

    @property
    def arranged(self) -> LayerStack:
        """The stack at full size, as its rows say."""
        return arrange(self.stack, self.rows)

    @property
    def pixels(self) -> int:
        """Of all its layers; the small ones count where they are others."""
        stacks = [self.stack] if self.small is self.stack else [self.stack, self.small]
        return sum(layer.image.width * layer.image.height for stack in stacks for layer in stack)


@dataclass
class Visit:
    """What the page remembers of one visitor.

    Attributes:
        keys: Ids of the results, the newest last.
        shown: Id of the result in view.
        cancel: Ends the run in progress.
    """

    keys: list[str] = field(default_factory=list)
    shown: str | None = None
    cancel: threading.Event | None = None


class History:
    """Results by id, least recently used first. Threads share it.

    Args:
        folder: Where each result has a folder for its files, removed together with it.
        max_pixels: Limit of all results together; the newest is kept whatever its size.
    """

    def __init__(self, folder: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.folder = folder
        self._max_pixels = max_pixels
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, entry: Entry) -> None:
        """Keep a result, and forget old ones where there is no more room."""
        with self._lock:
            self._entries[entry.key] = entry
            while len(self._entries) > 1 and sum(kept.pixels for kept in self._entries.values()) > self._max_pixels:
                self._drop(next(iter(self._entries)))

    def get(self, key: str) -> Entry:
        """A result.

        Raises:
            InputError: It had to make room for newer ones.
        """
        with self._lock:
            if key not in self._entries:
                raise InputError("this result had to make room for newer ones; run it again")
            self._entries.move_to_end(key)
            return self._entries[key]

    def kept(self, keys: Iterable[str]) -> list[Entry]:
        """Those of the results that are still there, in the order of the keys."""
        with self._lock:
            return [self._entries[key] for key in keys if key in self._entries]

    def forget(self, keys: Iterable[str]) -> None:
        """Drop results and their files, as at the end of a visit; those that are gone already are passed over."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def files(self, key: str) -> Path:
        """The folder for the files of a result, which may be still to come; the folder exists."""
        folder = self.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _drop(self, key: str) -> None:
        self._entries.pop(key, None)
        if (self.folder / key).exists():
            shutil.rmtree(self.folder / key)
