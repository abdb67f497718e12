"""Tables between markers."""

from __future__ import annotations

from pathlib import Path

import pytest
from page import write_table


def test_only_the_table_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- written by benchmarks/a.py -->\nold\n<!-- end of a -->\nafter\n")
    for value in ("1", r"\2"):  # a second time, and with what regular expressions would take for a reference
        write_table("a", [["", "x"], ["row", value]], page)
    begin, end = "<!-- written by benchmarks/a.py -->", "<!-- end of a -->"
    assert page.read_text() == f"before\n{begin}\n|  | x |\n| --- | --- |\n| row | \\2 |\n{end}\nafter\n"
    with pytest.raises(ValueError, match="markers of b"):
        write_table("b", [["x"]], page)
