"""Pictures through pipes: the same bytes as through files, nothing else on standard output."""

import os
import shlex
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import read_metadata
from processes import fork


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a picture; the model is a tiny one."""
    pipe = tiny.pipeline()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(omnialpha, "load", lambda name, **_: pipe, raising=False)
    tiny.picture(1).save("stdin.png")
    return tmp_path


def cli(line: str, picture: bytes | None = None) -> Result:
    return CliRunner().invoke(app, shlex.split(line), input=picture)


def pixels(picture: bytes) -> bytes:
    return Image.open(BytesIO(picture)).tobytes()


def test_a_pipe_gives_what_a_file_gives() -> None:
    picture = Path("stdin.png").read_bytes()
    assert cli("matte stdin.png -o file.png --seed 3").exit_code == 0
    result = cli("matte --stdin --stdout --seed 3", picture)
    assert result.exit_code == 0
    assert pixels(result.stdout_bytes) == pixels(Path("file.png").read_bytes())
    assert read_metadata(BytesIO(result.stdout_bytes))["inputs"] == ["stdin"]
    assert sorted(path.name for path in Path().iterdir()) == ["file.png", "stdin.png"]


def test_either_end_alone() -> None:
    assert cli("remove --stdin -o {stem}.png", Path("stdin.png").read_bytes()).exit_code == 1  # stdin.png is there
    assert cli("remove --stdin -o {stem}_{task}.png", Path("stdin.png").read_bytes()).exit_code == 0
    assert Path("stdin_removal_auto.png").is_file()
    assert pixels(cli("generate kite --stdout --size 32x16").stdout_bytes)


def test_several_layers_are_a_psd_or_what_the_format_says() -> None:
    for option, name in (("", "result.psd"), ("--format ora", "result.ora")):
        result = cli(f"decompose stdin.png --stdout {option}")
        assert result.exit_code == 0, result.stderr
        Path(name).write_bytes(result.stdout_bytes)
        assert [layer.name for layer in LayerStack.open(name)] == ["background", "foreground 1"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("matte --stdout", "either IMAGE… (files or folders) or --stdin"),
        ("matte stdin.png --stdin", "either IMAGE… (files or folders) or --stdin"),
        ("matte stdin.png stdin.png --stdout", "one result, not 2"),
        ("matte stdin.png --stdout -o x.png", "leave --output and --json out"),
        ("decompose stdin.png --stdout --format png", "choose another --format"),
    ],
)
def test_wrong_use_is_refused(line: str, words: str) -> None:
    result = cli(line)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout_bytes == b""


def test_what_is_no_picture_leaves_standard_output_empty() -> None:
    result = cli("matte --stdin --stdout", b"no picture")
    assert result.exit_code == 1
    assert "error:" in result.stderr
    assert result.stdout_bytes == b""


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """As in `omnialpha … --stdout | head -c 1`."""
    read, write = os.pipe()
    os.close(read)

    def into_the_closed_pipe() -> None:
        os.dup2(write, 1)
        app(["generate", "kite", "--stdout", "--size", "32x16"])

    child = fork(into_the_closed_pipe, output=Path("log"))
    child.join(60)
    assert child.exitcode == 1
    assert "Traceback" not in Path("log").read_text()


def test_the_shell_completes_commands() -> None:
    """What bash asks after `omnialpha --install-completion`."""
    words = {"_OMNIALPHA_COMPLETE": "complete_bash", "COMP_WORDS": "omnialpha dec", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, env=words, prog_name="omnialpha")
    assert result.stdout.split() == ["decompose"]
