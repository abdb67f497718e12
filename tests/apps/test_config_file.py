"""Options from a file, in a command of our own with options of every kind."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from omnialpha.apps.config_file import use_config
from omnialpha.errors import InputError

app = typer.Typer()
Config = Annotated[Path | None, typer.Option("--config", callback=use_config, is_eager=True)]


@app.command()
def command(
    source: Path,
    *,
    keep_best: Annotated[int, typer.Option("--keep-best", min=1)] = 5,
    editor: Annotated[str, typer.Option("--editor")] = "offline",
    share: Annotated[float | None, typer.Option("--share")] = None,
    masks: Annotated[bool, typer.Option("--masks/--no-masks")] = True,
    config: Config = None,
) -> None:
    typer.echo(f"{source} {keep_best} {editor} {share} {masks} {config and config.name}")


def _run(tmp_path: Path, toml: str, *arguments: str) -> str:
    (tmp_path / "paper.toml").write_text(toml)
    result = CliRunner().invoke(app, ["in", "--config", str(tmp_path / "paper.toml"), *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output.strip()


def test_the_file_replaces_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    toml = 'keep-best = 1000\neditor = "diffusers:model?steps=40"\nshare = 1\nmasks = false\n'
    assert _run(tmp_path, toml) == "in 1000 diffusers:model?steps=40 1.0 False paper.toml"
    assert _run(tmp_path, toml, "--keep-best", "7", "--masks") == "in 7 diffusers:model?steps=40 1.0 True paper.toml"
    assert CliRunner().invoke(app, ["in"]).output.strip() == "in 5 offline None True None"


def test_values_are_checked_as_on_the_command_line(tmp_path: Path) -> None:
    assert "greater than or equal to 1" in _run(tmp_path, "keep-best = 0")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("keep-bset = 1", 'unknown option "keep-bset"; did you mean "keep-best"'),
        ("keep-best", "cannot be read as TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _run(tmp_path, toml)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["in", "--config", str(tmp_path / "none.toml")])
    assert "none.toml: cannot be read as TOML" in str(result.exception)
