"""A watched folder: each picture once, whole ones only, bad ones reported; a killed watch goes on."""

import os
import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.imaging.layers import LayerStack
from processes import fork

ONCE = "watch in out --once --every 0.01"


@pytest.fixture(scope="module")
def pipe() -> omnialpha.OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture(autouse=True)
def loads(pipe: omnialpha.OmniAlphaPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A current folder with two pictures in the folder "in"; the list records that the model is loaded."""
    calls: list[Any] = []

    def load(name: str, **options: Any) -> omnialpha.OmniAlphaPipeline:
        calls.append(name)
        return pipe

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(omnialpha, "load", load, raising=False)
    Path("in").mkdir()
    for name in ("a", "b"):
        tiny.picture(ord(name)).save(f"in/{name}.png")
    return calls


def cli(line: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line))


def results() -> list[str]:
    """Finished ones: what is being written has a hidden name."""
    return sorted(path.name for path in Path("out").glob("[!.]*.p[ns]?"))


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_picture_is_done_once_also_by_a_second_watch(loads: list[Any]) -> None:
    first = cli(ONCE)
    assert first.exit_code == 0, first.output
    assert "2 done, 0 failed" in first.stderr
    assert results() == ["a_decomposition_auto.psd", "b_decomposition_auto.psd"]
    assert len(LayerStack.open(f"out/{results()[0]}")) == 2
    times = {name: Path("out", name).stat().st_mtime_ns for name in results()}

    Path("in/c.png").write_bytes(Path("in/a.png").read_bytes())
    assert "1 done, 0 failed" in cli(ONCE).stderr
    assert len(results()) == 3
    assert {name: Path("out", name).stat().st_mtime_ns for name in times} == times
    assert loads == ["nano", "nano"]  # once in each watch


def test_a_picture_that_changed_is_done_again() -> None:
    cli(ONCE)
    before = Path("out/a_decomposition_auto.psd").read_bytes()
    later = time.time() + 5
    tiny.picture(99).save("in/a.png")
    os.utime("in/a.png", (later, later))
    assert "1 done, 0 failed" in cli(ONCE).stderr
    assert Path("out/a_decomposition_auto.psd").read_bytes() != before


def test_bad_files_are_reported_and_the_others_done() -> None:
    Path("in/bad.png").write_bytes(b"no picture")
    Path("in/notes.txt").write_text("not looked at")
    tiny.picture(5).convert("RGB").save("in/a.jpg")  # its result would have the name of a.png's
    result = cli(ONCE + " --task matting_auto")
    assert result.exit_code == 1
    assert "2 done, 2 failed" in result.stderr
    assert "bad.png" in result.stderr
    assert re.search(r"a\.png: out/a_matting_auto\.png is the result of a\.jpg; rename one", result.stderr)
    assert results() == ["a_matting_auto.png", "b_matting_auto.png"]


def test_a_file_that_is_still_written_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows between two looks, five times."""
    content = Path("in/a.png").read_bytes()
    part = len(content) // 5 + 1
    parts = [content[start : start + part] for start in range(0, len(content), part)]

    def write_on(seconds: float) -> None:
        assert seconds == 0.01
        if parts:
            with Path("in/slow.png").open("ab") as file:
                file.write(parts.pop(0))

    monkeypatch.setattr("omnialpha.apps.watch.time.sleep", write_on)
    result = cli(ONCE + " --task matting_auto")
    assert result.exit_code == 0, result.stderr
    assert "3 done, 0 failed" in result.stderr
    same = [Path(f"out/{name}_matting_auto.png") for name in ("a", "slow")]
    assert Image.open(same[0]).tobytes() == Image.open(same[1]).tobytes()


def test_a_mended_picture_is_tried_again_and_ctrl_c_is_the_end() -> None:
    Path("in/broken.png").write_bytes(Path("in/a.png").read_bytes()[:50])
    Path("log").touch()
    child = fork(lambda: app(shlex.split("watch in out --task matting_auto --every 0.05")), output=Path("log"))
    wait(lambda: "error: in/broken.png" in Path("log").read_text())
    tiny.picture(7).save("in/broken.png")
    wait(lambda: "broken_matting_auto.png" in Path("log").read_text())
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert child.exitcode == 0
    assert re.search(r"^3 done, \d+ failed\n\Z", Path("log").read_text(), re.MULTILINE)


def test_a_killed_watch_leaves_no_half_result_and_goes_on() -> None:
    for number in range(6):
        tiny.picture(number).save(f"in/{number}.png")
    child = fork(lambda: app(shlex.split("watch in out --every 0.01")), output=Path("log"))
    wait(lambda: Path("out").is_dir() and len(results()) >= 2)
    child.kill()
    child.join()
    done = results()
    assert all(len(LayerStack.open(f"out/{name}")) == 2 for name in done)
    assert f"{8 - len(done)} done, 0 failed" in cli(ONCE).stderr
    assert len(results()) == 8


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("watch nowhere out", "is no folder"),
        ("watch in in", "would be taken for new pictures"),
        ("watch in out -o x.png", "contradicts the folder OUT"),
        ("watch in out --task matting_trimap", "trimap"),
        ("watch in out --task matting_text", "needs a text"),
    ],
)
def test_wrong_use_is_refused_at_once(line: str, words: str) -> None:
    result = cli(line)
    assert result.exit_code == 2
    assert words in result.stderr
