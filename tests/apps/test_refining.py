"""`--refine`, `--no-refine` and `--residual` on the command line, with a tiny random pipeline that works at 64²."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import read_metadata


@pytest.fixture(scope="module")
def pipe() -> omnialpha.OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture
def here(tmp_path: Path, pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a picture larger than the model works, one that fits, and a cut-out as guide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(omnialpha, "load", lambda name, **options: pipe, raising=False)
    tiny.picture(1, (160, 120)).save("large.png")
    tiny.picture(2, (48, 32)).save("small.png")
    tiny.mask((160, 120)).save("alpha.png")
    return tmp_path


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_large_inputs_are_refined_by_default(here: Path) -> None:
    """An alpha guide is the answer: a random model cannot have found it."""
    assert cli("matte", "large.png", "--alpha", "alpha.png", "-o", "refined.png").exit_code == 0
    refined = np.asarray(Image.open("refined.png"))
    assert refined.shape == (120, 160, 4)
    np.testing.assert_array_equal(refined[..., 3], np.asarray(Image.open("alpha.png")))
    solid = refined[..., 3] == 255
    np.testing.assert_array_equal(refined[solid], np.asarray(Image.open("large.png"))[solid])
    assert read_metadata("refined.png")["refined"] is True
    assert read_metadata("refined.png")["work_size"] == [80, 48]


def test_the_raw_result_is_a_switch_away(here: Path) -> None:
    assert cli("matte", "large.png", "--alpha", "alpha.png", "--no-refine", "-o", "raw.png").exit_code == 0
    assert not np.array_equal(np.asarray(Image.open("raw.png"))[..., 3], np.asarray(Image.open("alpha.png")))
    assert "refined" not in read_metadata("raw.png")


def test_inputs_that_fit_are_refined_only_when_asked(here: Path) -> None:
    assert cli("matte", "small.png", "-o", "plain.png").exit_code == 0
    assert cli("matte", "small.png", "--refine", "-o", "asked.png").exit_code == 0
    assert "refined" not in read_metadata("plain.png")
    assert read_metadata("asked.png")["refined"] is True


def test_a_residual_layer_restores_the_input(here: Path) -> None:
    assert cli("decompose", "large.png", "--residual", "-o", "layers.psd").exit_code == 0
    stack = LayerStack.open("layers.psd")
    assert stack[-1].name == "residual"
    assert np.abs(np.asarray(stack.flatten(), int) - np.asarray(Image.open("large.png"))).max() <= 1


def test_options_that_contradict_are_refused(here: Path) -> None:
    result = cli("decompose", "large.png", "--residual", "--no-refine", "-o", "x.psd")
    assert result.exit_code == 2
    assert "leave --no-refine out" in result.output
    result = cli("matte", "large.png", "--residual", "-o", "x.png")
    assert result.exit_code == 1
    assert "takes nothing apart" in result.output
