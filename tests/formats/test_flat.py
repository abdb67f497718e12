"""PNG, WebP and AVIF: one picture, with profile, resolution and metadata where other readers look for them."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from omnialpha.errors import OutputError
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

oiio = pytest.importorskip("OpenImageIO")
EVERY_PICTURE = pytest.mark.parametrize("name", ["a.png", "a.webp", "a.avif"])
_COLOUR_STEPS = {".png": 0, ".webp": 0, ".avif": 2}  # AVIF stores YCbCr


def _single() -> LayerStack:
    return LayerStack([Layer(noise(31, 23, 0), "cut-out")], metadata={"seed": 7, "dpi": [300.0, 150.0]})


@EVERY_PICTURE
def test_a_single_layer_keeps_its_pixels(tmp_path: Path, name: str) -> None:
    _single().save(tmp_path / name)
    written, read = np.asarray(_single()[0].image).astype(int), np.asarray(Image.open(tmp_path / name)).astype(int)
    assert np.abs(read - written)[..., :3].max() <= _COLOUR_STEPS[Path(name).suffix]
    assert np.abs(read - written)[..., 3].max() == 0
    again = LayerStack.open(tmp_path / name)
    assert again.metadata == _single().metadata
    assert [layer.name for layer in again] == ["picture"]


@pytest.mark.parametrize("name", ["a.webp", "a.avif"])
def test_pillow_sees_profile_and_resolution(tmp_path: Path, name: str) -> None:
    _single().save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        exif = image.getexif()
        assert (exif[282], exif[283], exif[296]) == (300, 150, 2)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert b'"seed": 7' in image.info["xmp"]


def test_openimageio_reads_the_webp(tmp_path: Path) -> None:
    """Opaque, since OpenImageIO premultiplies as it reads."""
    image = noise(31, 23, 0).convert("RGB").convert("RGBA")
    LayerStack([Layer(image)]).save(tmp_path / "a.webp")
    pixels = oiio.ImageBuf(str(tmp_path / "a.webp")).get_pixels(oiio.UINT8)
    np.testing.assert_array_equal(pixels[..., :3], np.asarray(image)[..., :3])


@pytest.mark.skipif(shutil.which("avifdec") is None, reason="needs avifdec (libavif)")
def test_avifdec_decodes_the_same_pixels(tmp_path: Path) -> None:
    _single().save(tmp_path / "a.avif")
    subprocess.run(["avifdec", str(tmp_path / "a.avif"), str(tmp_path / "a.png")], check=True, capture_output=True)
    assert difference(Image.open(tmp_path / "a.png"), _single()[0].image) <= 2


@EVERY_PICTURE
def test_several_layers_are_flattened_and_that_is_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "omnialpha"):
        sample_stack().save(tmp_path / name)
    assert f"{name}: holds one picture; the 4 layers are flattened" in caplog.text
    (layer,) = LayerStack.open(tmp_path / name)
    assert difference(layer.image, sample_stack().flatten()) <= 2


@pytest.mark.parametrize("change", [{"visible": False}, {"opacity": 0.5}, {"offset": (1, 0)}])
def test_a_single_layer_that_is_not_the_whole_picture_is_flattened(tmp_path: Path, change: dict) -> None:
    stack = LayerStack([Layer(noise(5, 4, 0), **change)], (5, 4))
    stack.save(tmp_path / "a.png")
    assert difference(Image.open(tmp_path / "a.png"), stack.flatten()) == 0


def test_a_canvas_too_long_for_webp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a.webp: a WebP is at most 16383 pixels wide and high; save as .png"):
        LayerStack([], (16_384, 1)).save(tmp_path / "a.webp")


def test_a_pillow_without_avif_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(OutputError, match="a.avif: this build of Pillow has no AVIF"):
        _single().save(tmp_path / "a.avif")
