"""Tables of docs/performance.md that a script writes: they stand between two markers with the script's name."""

import re
from collections.abc import Sequence
from pathlib import Path

from omnialpha.imaging.files import atomic_write

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def write_table(script: str, rows: Sequence[Sequence[str]], page: Path = PAGE) -> None:
    """Replace the table between a script's markers.

    Args:
        script: its name, as in ``<!-- written by benchmarks/NAME.py -->`` and ``<!-- end of NAME -->``.
        rows: cells; the first row is the header.
        page: where.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- written by benchmarks/{script}.py -->", f"<!-- end of {script} -->"
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    table = "\n".join([begin, *lines, end])
    text, found = re.subn(f"(?s){re.escape(begin)}.*?{re.escape(end)}", lambda _: table, page.read_text("utf-8"))
    if found != 1:
        raise ValueError(f"expected one pair of markers of {script} in {page.name}, found {found}")
    with atomic_write(page, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
