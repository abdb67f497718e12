"""`omnialpha convert` between the formats, and the suffixes that the generating commands write."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from omnialpha import formats
from omnialpha.apps import settings
from omnialpha.apps.cli import app
from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings
from omnialpha.apps.targets import plan, write
from omnialpha.errors import InputError
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import read_dpi, read_metadata
from omnialpha.tasks import task
from stacks import difference, noise, sample_stack


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the sample as PSD."""
    monkeypatch.chdir(tmp_path)
    sample_stack().save("in.psd")
    return tmp_path


def _convert(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["convert", *arguments])


def test_a_chain_through_every_layered_format_keeps_the_layers(here: Path) -> None:
    chain = ["in.psd", "a.exr", "b.psb", "c.svg", "d.ora", "layers", "e.exr", "f.psd"]
    for source, target in itertools.pairwise(chain):
        result = _convert(source, target, *(["--format", "exr-layers"] if target == "e.exr" else []))
        assert (result.exit_code, result.stdout) == (0, f"{target}\n"), result.output
    first, last = LayerStack.open("in.psd"), LayerStack.open("f.psd")
    assert last.metadata == first.metadata
    assert [(x.name, x.offset, x.opacity, x.visible) for x in last] == [
        (x.name, x.offset, x.opacity, x.visible) for x in first
    ]
    assert difference(last.flatten(), first.flatten()) == 0


def test_pictures_are_stacks_of_one_layer_with_their_resolution_and_orientation(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    noise(12, 8, 0).convert("RGB").save("photo.jpg", dpi=(240, 240), exif=exif, quality=95)
    assert _convert("photo.jpg", "photo.psd").exit_code == 0
    stack = LayerStack.open("photo.psd")
    assert stack.size == (8, 12)
    assert stack.metadata["dpi"] == [240.0, 240.0]
    assert [layer.name for layer in stack] == ["picture"]


def test_several_layers_into_a_picture_are_flattened_with_a_note(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "omnialpha"):
        assert _convert("in.psd", "flat.webp").exit_code == 0
    assert "flat.webp: holds one picture; the 4 layers are flattened" in caplog.text
    # Colours of transparent pixels aside: flattening makes them black.
    assert difference(LayerStack.open("flat.webp").flatten(), LayerStack.open("in.psd").flatten()) == 0


def test_the_preview_may_be_an_animated_webp(here: Path) -> None:
    assert _convert("in.psd", "turn.webp", "--format", "preview").exit_code == 0
    with Image.open("turn.webp") as image:
        assert image.format == "WEBP"
        assert getattr(image, "n_frames", 1) > 10


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["no.psd", "x.ora"], 1, "no.psd: no such file"),
        (["in.psd", "x.xcf"], 2, "not a format that is written"),
        (["in.psd", "x.ora", "--format", "orra"], 2, 'did you mean "ora"'),
        (["in.psd", "in.psd"], 1, "--overwrite"),
        (["in.gif", "x.psd"], 1, "written only"),
    ],
)
def test_what_cannot_be_converted_says_why(here: Path, arguments: list[str], code: int, expected: str) -> None:
    result = _convert(*arguments)
    assert result.exit_code == code
    assert expected in result.output


def test_an_existing_file_is_replaced_when_asked(here: Path) -> None:
    assert _convert("in.psd", "x.ora").exit_code == 0
    assert _convert("in.psd", "x.ora").exit_code == 1
    assert _convert("in.psd", "x.ora", "--overwrite").exit_code == 0


def test_the_formats_of_the_command_line_are_those_of_the_library() -> None:
    assert {f".{name}" for name in settings.FORMATS} == set(formats.SUFFIXES) - {"", ".tif"}


MATTE = Job(task=task("matting_auto"), images=(Path("a.png"),))
DECOMPOSE = Job(task=task("decomposition_auto"), images=(Path("a.png"),))


@pytest.mark.parametrize("suffix", [s for s in formats.SUFFIXES if s])
def test_generating_commands_take_every_suffix_that_fits_the_number_of_layers(suffix: str) -> None:
    one, several = suffix != ".gif", suffix not in (".png", ".webp", ".avif")
    for job, fits in ((MATTE, one), (DECOMPOSE, several)):
        if fits:
            assert plan([job], Settings(output=f"x{suffix}")) == [Path(f"x{suffix}")]
        else:
            with pytest.raises(InputError, match=f"x{suffix}: .* gives"):
                plan([job], Settings(output=f"x{suffix}"))


def test_a_format_that_cannot_hold_the_layers_is_refused() -> None:
    assert plan([MATTE], Settings(format="webp")) == [Path("a_matting_auto.webp")]
    assert plan([DECOMPOSE], Settings(format="gif", output="out/")) == [Path("out/a_decomposition_auto.gif")]
    with pytest.raises(InputError, match="--format avif: decomposition_auto gives 2 layers and one .avif holds one"):
        plan([DECOMPOSE], Settings(format="avif"))
    assert plan([DECOMPOSE], Settings(output="x.tif", format="tiff")) == [Path("x.tif")]


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.avif", "x.tiff"])
def test_results_carry_provenance_and_resolution(here: Path, name: str) -> None:
    layer = Layer(noise(6, 5, 0))
    write(LayerStack([layer]), Path(name), {"seed": 3, "dpi": [300.0, 300.0]}, overwrite=False)
    assert LayerStack.open(name).metadata == {"seed": 3, "dpi": [300.0, 300.0]}
    assert read_dpi(name) == (300.0, 300.0)
    assert Path(f"{name}.json").exists() == (name == "x.tiff")
    if name == "x.png":
        assert read_metadata(name)["seed"] == 3
        np.testing.assert_array_equal(np.asarray(Image.open(name)), np.asarray(layer.image))
