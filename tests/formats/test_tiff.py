"""Layered TIFF: what other programs see in our files, and what we see in theirs."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from omnialpha.errors import ImageError
from omnialpha.formats import tiff
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

oiio = pytest.importorskip("OpenImageIO")


@pytest.fixture
def stack() -> LayerStack:
    layers = [Layer(noise(31, 23, 0), "background"), Layer(noise(20, 17, 1), "玻璃杯 «glass»", 0.37, False, (7, 11))]
    return LayerStack(layers, (31, 23), {"seed": 7, "dpi": [300.0, 150.0]})


@pytest.mark.parametrize("deep", [False, True])
def test_openimageio_sees_every_page_at_its_place(stack: LayerStack, tmp_path: Path, deep: bool) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (5, 4, 4), dtype=np.uint16)
    if deep:
        stack.layers.append(Layer.from_array(samples, "deep", offset=(3, 2)))
    tiff.write(stack, tmp_path / "a.tiff")
    for number, layer in enumerate(stack):
        page = oiio.ImageBuf(str(tmp_path / "a.tiff"), number, 0, _unassociated())
        spec = page.spec()
        assert str(spec.format) == ("uint16" if deep else "uint8")
        assert spec.channelnames == ("R", "G", "B", "A")
        assert (spec.get_float_attribute("XResolution"), spec.get_float_attribute("YResolution")) == (300, 150)
        assert "sRGB" in spec.get_string_attribute("ICCProfile:profile_description")
        pixels = page.get_pixels(oiio.UINT16 if deep else oiio.UINT8)
        expected = np.rint(layer.array() * 65535) if deep else np.asarray(layer.image)
        np.testing.assert_array_equal(pixels, expected)
    if deep:
        np.testing.assert_array_equal(pixels, samples)


def _unassociated() -> Any:
    """Configuration of a reader that leaves colours as they are stored."""
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    return config


def test_names_and_places_are_in_the_tags_that_gimp_reads(stack: LayerStack, tmp_path: Path) -> None:
    tiff.write(stack, tmp_path / "a.tiff")
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        tags = file.pages[1].aspage().tags
        assert tags["PageName"].value == "玻璃杯 «glass»"
        x, y = (tags[name].value for name in ("XPosition", "YPosition"))
        assert (300 * x[0] / x[1], 150 * y[0] / y[1]) == (7, 11)
        assert tags["ExtraSamples"].value == (2,)  # straight alpha


def test_what_lies_left_of_or_above_the_canvas_is_cut_off_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = sample_stack()
    tiff.write(stack, tmp_path / "a.tiff")
    again = tiff.read(tmp_path / "a.tiff")
    assert [(layer.name, layer.offset, layer.image.size) for layer in again] == [
        ("background", (0, 0), (31, 23)),
        ("玻璃杯 «glass»", (0, 11), (13, 17)),
        ("hidden", (0, 0), (31, 23)),
        ("glow", (100, 0), (1, 1)),
    ]
    assert difference(again.flatten(), stack.flatten()) == 0
    assert 'a.tiff: what layer "玻璃杯 «glass»" has left of or above the canvas is cut off' in caplog.text


def test_pages_of_other_programs_are_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Grey, palette and deep pages, one in another colour space, turned, and no word of ours."""
    grey, colour = noise(9, 8, 0).convert("L"), noise(5, 6, 1).convert("RGB")
    deep = np.random.default_rng(0).integers(0, 65536, (4, 3, 4), dtype=np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.asarray(grey), resolution=(240, 240), resolutionunit="INCH", metadata=None)
        name = [(285, "s", 0, "Ebene 2", True)]
        file.write(np.asarray(colour), photometric="rgb", extratags=name, iccprofile=profile, metadata=None)
        turned = [(274, "H", 1, 6, True)]
        file.write(deep, photometric="rgb", extrasamples=["unassalpha"], extratags=turned, metadata=None)
    with caplog.at_level(logging.INFO, "omnialpha"):
        stack = tiff.read(tmp_path / "a.tif")
    assert [layer.name for layer in stack] == ["Page 1", "Ebene 2", "Page 3"]
    assert stack.size == (9, 8)
    assert stack.metadata == {"dpi": [240.0, 240.0]}
    assert difference(stack[0].image, grey.convert("RGBA")) == 0
    assert "profile" in caplog.text
    # Turned by a quarter to the right, at all 16 bits.
    np.testing.assert_array_equal(np.rint(stack[2].array() * 65535), np.rot90(deep, -1))


def test_a_description_that_no_longer_fits_the_pages_is_left_out(stack: LayerStack, tmp_path: Path) -> None:
    tiff.write(stack, tmp_path / "a.tiff")
    with Image.open(tmp_path / "a.tiff") as image:
        image.save(tmp_path / "b.tiff", description=image.tag_v2[270])  # type: ignore[attr-defined]
    (layer,) = tiff.read(tmp_path / "b.tiff")
    assert layer.opacity == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    noise(3, 3, 0).save(tmp_path / "a.tiff", format="PNG")
    with pytest.raises(ImageError, match="a.tiff: is a PNG, not a TIFF"):
        tiff.read(tmp_path / "a.tiff")
