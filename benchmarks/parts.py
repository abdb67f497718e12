"""Run the parts of a measurement in order of importance until the time is up, keeping every result at once.

Device time is lent by the minute: a part that would not end in time is left out, one that fails does not take the
others along, and the file is rewritten after each.
"""

import json
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnialpha.imaging.files import atomic_write

logger = logging.getLogger(__name__)

UNMEASURED = {"left_out", "failed"}
"""What a part's result says instead of figures."""


@dataclass(frozen=True)
class Part:
    """One thing to measure.

    Attributes:
        name: its key in the result.
        seconds: how long it is expected to take; with less left it is not begun.
        run: measures it; what it returns goes into the result.
    """

    name: str
    seconds: float
    run: Callable[[], dict[str, Any]]


def run_parts(
    parts: Sequence[Part],
    record: Callable[[str, dict[str, Any]], None],
    *,
    until: float,
    tidy: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Run what fits, in order.

    Args:
        parts: the most important first.
        record: called with the name and the result of each part; parts that were not begun say "left_out", parts that
            raised say "failed".
        until: when the time is up, on the clock.
        tidy: called after each part.
        clock: seconds.

    Returns:
        Whether all parts ran and none failed.
    """
    complete = True
    for part in parts:
        left = until - clock()
        if left < part.seconds:
            record(part.name, {"left_out": f"expected {part.seconds:.0f} s, {max(left, 0):.0f} s left"})
            complete = False
            continue
        logger.info("%s: begins, %.0f s left", part.name, left)
        start = clock()
        try:
            figures = part.run()
        except Exception as error:  # whatever it is, the parts after it are worth measuring
            logger.error("%s: failed\n%s", part.name, traceback.format_exc())
            figures = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
            complete = False
        record(part.name, figures | {"part_seconds": round(clock() - start, 1)})
        tidy()
    return complete


class Results:
    """A result file that is rewritten whenever a part is done.

    Args:
        file: of the result; the parts of an earlier run with the same settings are kept until they run again.
        settings: everything that the parts share; a file with other settings is begun anew.
        command: what is run now.
    """

    def __init__(self, file: Path, settings: dict[str, Any], command: str) -> None:
        self.file, self.settings, self.command = file, settings, command
        found = json.loads(file.read_text()) if file.is_file() else {}
        self.parts: dict[str, dict[str, Any]] = found["parts"] if found.get("settings") == settings else {}

    def record(self, name: str, figures: dict[str, Any]) -> None:
        """Take a part's figures and write the file; a part that was measured before is not lost by being left out."""
        if not (UNMEASURED & figures.keys() and self.measured(name)):
            self.parts[name] = figures
        logger.info("%s: %s", name, json.dumps(figures, ensure_ascii=False))
        with atomic_write(self.file, overwrite=True) as temporary:
            content = {"command": self.command, "settings": self.settings, "parts": self.parts}
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def measured(self, name: str) -> bool:
        """Whether the part has figures."""
        return name in self.parts and not UNMEASURED & self.parts[name].keys()
