"""README and docs: links lead somewhere, commands exist with their options, the Python blocks run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import omnialpha
import tiny
from omnialpha.apps.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _commands() -> list[tuple[str, list[str]]]:
    """Every `omnialpha …` line of the pages, with the page's name."""
    lines = [(page.name, line) for page in PAGES for block in _blocks(page, "console") for line in block.splitlines()]
    split = [(name, shlex.split(line, comments=True)) for name, line in lines]
    return [(name, words[1:]) for name, words in split if words and words[0].endswith("omnialpha")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_on_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    named = re.findall(r"`([\w./-]*\.(?:py|sh))`", text) + re.findall(r"`((?:src|docs|benchmarks)/[\w./-]+)`", text)
    if page.name == "architecture.md":  # elsewhere a bare folder may be one that a command makes
        named += re.findall(r"`([\w./-]*/)`", text)
    folders = (ROOT, ROOT / "src" / "omnialpha", ROOT / "tests")
    missing += [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert not missing


@pytest.mark.parametrize(
    ("page", "words"), _commands(), ids=lambda value: value[0] if isinstance(value, list) else value
)
def test_commands_on_the_pages_parse(page: str, words: list[str]) -> None:
    """Click itself reads the line, so an unknown command, option or missing argument fails; nothing is run."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):  # sub-commands, as in `omnialpha train dit`
        name, *words = words
        command = command.commands[name]
    assert not command.make_context(name, words).args


def test_every_command_is_on_a_page() -> None:
    group: Any = typer.main.get_command(app)
    assert {words[0] for _, words in _commands()} == set(group.commands)


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=lambda page: page.name)
def test_python_on_the_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, on a tiny random model in the place of the named ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(omnialpha, "load", lambda name: tiny.pipeline(), raising=False)
    for name in ("photo.jpg", "cat.jpg", "street.jpg"):
        Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(name)
    Image.linear_gradient("L").resize((48, 32)).save("trimap.png")
    names: dict[str, Any] = {}
    for block in _blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    saved = re.findall(r'\.save\("([^"]+)"', "".join(_blocks(page, "python")))
    assert [name for name in saved if not Path(name).exists()] == []
