"""OpenEXR: linear, premultiplied floats as OpenImageIO sees them; both layouts; files of other programs."""

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from omnialpha.errors import ImageError, OutputError
from omnialpha.formats import exr, exr_layers
from omnialpha.imaging.colour import from_linear, to_linear
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import premultiply, to_array
from stacks import noise, sample_stack

oiio = pytest.importorskip("OpenImageIO")


def _parts(path: Path) -> list[Any]:
    count = oiio.ImageBuf(str(path)).nsubimages
    return [oiio.ImageBuf(str(path), number, 0) for number in range(count)]


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Straight sRGB of premultiplied linear pixels, all by OpenImageIO."""
    image = oiio.ImageBuf(np.ascontiguousarray(linear, np.float32))
    converted = oiio.ImageBufAlgo.colorconvert(oiio.ImageBufAlgo.unpremult(image), "linear", "sRGB", unpremult=False)
    assert not converted.has_error, converted.geterror()
    return converted.get_pixels(oiio.FLOAT)


def _same_where_visible(pixels: np.ndarray, expected: np.ndarray) -> None:
    visible = expected[..., 3] > 0
    assert np.abs(pixels - expected)[visible].max() < 1e-4
    assert not pixels[~visible][..., 3].any()


def test_openimageio_sees_a_part_per_layer(tmp_path: Path) -> None:
    stack = sample_stack()
    stack.metadata["dpi"] = [300.0, 150.0]
    exr.write(stack, tmp_path / "a.exr")
    merged, *parts = _parts(tmp_path / "a.exr")
    assert [part.spec().get_string_attribute("name") for part in parts] == [layer.name for layer in stack]
    for part, layer in zip(parts, stack, strict=True):
        spec = part.spec()
        assert str(spec.format) == "float"
        assert (spec.x, spec.y, spec.width, spec.height) == (*layer.offset, *layer.image.size)
        assert (spec.full_x, spec.full_y, spec.full_width, spec.full_height) == (0, 0, 31, 23)
        assert (spec.get_float_attribute("XResolution"), spec.get_float_attribute("PixelAspectRatio")) == (300, 2)
        _same_where_visible(_srgb(part.get_pixels(oiio.FLOAT)), layer.array())
    _same_where_visible(_srgb(merged.get_pixels(oiio.FLOAT)), stack.flatten_array())


def test_openimageio_sees_named_channels_in_one_part(tmp_path: Path) -> None:
    stack = sample_stack()[:3]
    exr_layers.write(stack, tmp_path / "a.exr")
    (part,) = _parts(tmp_path / "a.exr")
    spec, pixels = part.spec(), part.get_pixels(oiio.FLOAT)
    assert (spec.x, spec.y, spec.width, spec.height) == (-7, 0, 38, 28)
    names = ["0000 background", "0001 玻璃杯 «glass»", "0002 hidden"]
    assert {name.rpartition(".")[0] for name in spec.channelnames} == {"", *names}
    for name, layer in zip(names, stack, strict=True):
        planes = [pixels[..., spec.channelnames.index(f"{name}.{letter}")] for letter in "RGBA"]
        x, y = layer.offset[0] + 7, layer.offset[1]
        cut = np.stack(planes, axis=-1)[y : y + layer.image.height, x : x + layer.image.width]
        _same_where_visible(_srgb(cut), layer.array())


def test_both_layouts_are_read_alike(tmp_path: Path) -> None:
    exr.write(sample_stack(), tmp_path / "a.exr")
    exr_layers.write(sample_stack(), tmp_path / "b.exr")
    first, second = exr.read(tmp_path / "a.exr"), exr_layers.read(tmp_path / "b.exr")
    assert first.layers == second.layers
    assert (first.size, first.metadata) == (second.size, second.metadata)


def test_every_colour_and_alpha_comes_back(tmp_path: Path) -> None:
    """sRGB → linear → premultiplied → back is exact to 8 bits, down to the faintest alpha."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(1, 256))
    pixels = np.stack([colour, 255 - colour, colour ^ 85, alpha], axis=-1).astype(np.uint8)
    exr.write(LayerStack([Layer.from_array(pixels)]), tmp_path / "a.exr")
    (layer,) = exr.read(tmp_path / "a.exr")
    np.testing.assert_array_equal(np.asarray(layer.image), pixels)
    assert layer.deep is None  # it was 8 bits, and the rounding of floats is no detail


def test_linear_light_and_back() -> None:
    steps = np.linspace(0, 1, 4096, dtype=np.float32)
    image = np.stack([steps] * 4, axis=-1)
    np.testing.assert_allclose(from_linear(to_linear(image)), image, atol=2e-7)
    np.testing.assert_array_equal(to_linear(image)[..., 3], steps)


def test_layers_of_other_programs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As Blender writes them: one part, "ViewLayer.Combined.R", a depth channel, grey, values beyond white."""
    grey, colour = (to_linear(to_array(noise(4, 3, seed))) for seed in (0, 1))
    bright = premultiply(colour)
    bright[0, 0] = (4, -1, 0.5, 1)
    channels = {f"View.Combined.{letter}": bright[..., i].copy() for i, letter in enumerate("RGBA")}
    channels |= {"Mask.Y": grey[..., 0].copy(), "View.Depth.Z": grey[..., 1].copy()}
    header = {"dataWindow": exr._window((12, 9, 4, 3)), "displayWindow": exr._window((10, 10, 20, 10))}
    header |= {"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION}
    OpenEXR.File(header, channels).write(str(tmp_path / "a.exr"))
    mask, view = exr.read(tmp_path / "a.exr")
    assert (mask.name, view.name) == ("Mask", "View.Combined")
    assert mask.offset == view.offset == (2, -1)
    assert view.image.getpixel((0, 0)) == (255, 0, 188, 255)
    assert np.asarray(mask.image)[..., 3].min() == 255
    assert 'channels "Z" are no colours; left out' in caplog.text
    assert "darker than black or brighter than white; clipped" in caplog.text


@pytest.mark.parametrize(
    ("channels", "header", "message"),
    [
        ({"Z": np.zeros((3, 4), np.float32)}, {}, "has no channels R, G and B, nor Y"),
        ({"R": np.zeros((3, 4), np.float32)}, {"displayWindow": exr._window((0, 0, 9999, 9999))}, "more than the 67"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, channels: dict, header: dict, message: str) -> None:
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(tmp_path / "a.exr"))
    with pytest.raises(ImageError, match=f"a.exr: .*{message}"):
        exr.read(tmp_path / "a.exr")


def test_values_that_are_not_finite_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plane = np.array([[np.nan, np.inf, 0.5]], np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, dict.fromkeys("RGB", plane)).write(str(tmp_path / "a.exr"))
    (layer,) = exr.read(tmp_path / "a.exr")
    assert np.asarray(layer.image)[0, :, 0].tolist() == [0, 255, 188]
    assert "not finite" in caplog.text


def test_a_damaged_part_is_an_error_and_not_one_layer_less(tmp_path: Path) -> None:
    exr.write(LayerStack([Layer(noise(40, 40, seed)) for seed in range(3)]), tmp_path / "a.exr")
    content = bytearray((tmp_path / "a.exr").read_bytes())
    content[len(content) - 3000 : len(content) - 2000] = bytes(1000)
    (tmp_path / "a.exr").write_bytes(content)
    with pytest.raises(ImageError, match="a.exr: the pixels of a part are damaged"):
        exr.read(tmp_path / "a.exr")


def test_equal_names_stay_two_layers(tmp_path: Path) -> None:
    names = ["merged", "a", "a", "", "a.b"]
    stack = LayerStack([Layer(noise(3, 3, seed), name) for seed, name in enumerate(names)])
    for module in (exr, exr_layers):
        module.write(stack, tmp_path / f"{module.__name__}.exr")
        again = module.read(tmp_path / f"{module.__name__}.exr")
        assert [layer.name for layer in again] == names
        assert np.abs(again.flatten_array() - stack.flatten_array()).max() < 1e-4


def test_layers_too_far_apart_for_one_part_are_refused(tmp_path: Path) -> None:
    stack = LayerStack([Layer(noise(3, 3, 0), offset=(100_000, 100_000))], (4, 4))
    with pytest.raises(OutputError, match="too far apart for one part; save with one part per layer"):
        exr_layers.write(stack, tmp_path / "a.exr")
    exr.write(stack, tmp_path / "a.exr")
    assert exr.read(tmp_path / "a.exr")[0].offset == (100_000, 100_000)
