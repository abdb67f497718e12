"""The demo of `make demo`, run on a tiny random pipeline."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import omnialpha
import tiny
from omnialpha.imaging import backdrop
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import read, read_metadata

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(omnialpha, "load", lambda _: tiny.pipeline(), raising=False)
    return module


def test_demo_writes_everything_and_runs_again(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    demo.main()
    first = {path.name: path.read_bytes() for path in Path("demo").iterdir()}
    assert set(first) == {
        *("layers.psd", "layers.ora", "cutout.png", "orca.png", "removal.png", "apple.png"),
        "overview.png",
    }
    for name in ("layers.psd", "layers.ora"):
        assert [layer.name for layer in LayerStack.open(Path("demo") / name)] == ["background", "foreground 1"]
    assert read_metadata("demo/cutout.png")["task"] == "matting_trimap"
    printed = capsys.readouterr().out
    for name in first:
        assert str(Path("demo") / name) in printed
    assert len(re.findall(r"\d+\.\d s", printed)) == 1 + len(demo.JOBS)

    demo.main()
    assert {path.name: path.read_bytes() for path in Path("demo").iterdir()} == first


def test_tile_shows_transparency_as_checkerboard(demo: ModuleType) -> None:
    tile = np.asarray(demo.tile(Image.new("RGBA", (50, 50))))
    greys = {(backdrop.LIGHT,) * 3, (backdrop.DARK,) * 3}
    assert {tuple(int(v) for v in colour) for colour in tile.reshape(-1, 3)} == greys
    tile = np.asarray(demo.tile(Image.new("RGBA", (50, 25), "red")))
    assert (tile == (255, 0, 0)).all(axis=-1).mean() == pytest.approx(192 * 96 / 200**2)


def test_every_picture_is_small_readable_and_has_a_licence() -> None:
    licences = (EXAMPLES / "images/LICENSES.md").read_text(encoding="utf-8")
    pictures = [path for path in (EXAMPLES / "images").iterdir() if path.suffix != ".md"]
    assert pictures
    for path in pictures:
        assert f"`{path.name}`" in licences
        assert max(read(path).size) <= 512
        assert path.stat().st_size < 100_000


def test_demo_uses_only_shipped_pictures(demo: ModuleType) -> None:
    jobs: tuple[Any, ...] = demo.JOBS
    for _, task, names, text, _ in jobs:
        omnialpha.tasks.task(task).check_images(len(names))
        omnialpha.tasks.task(task).prompt(text)
        assert all((EXAMPLES / "images" / name).is_file() for name in names)
