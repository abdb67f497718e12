"""Pictures in and out: precision, provenance, and the two kinds of alpha."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from omnialpha.errors import ImageError, InputError, OutputError
from omnialpha.imaging import rgba


def test_sixteen_bits_are_kept_as_floats_and_rounded_as_images(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (9, 7, 4), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), samples[..., [2, 1, 0, 3]])
    array = rgba.read_array(tmp_path / "deep.png")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(np.rint(array * 65535), samples)
    image = rgba.read(tmp_path / "deep.png")
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), np.rint(samples / 257))


def test_eight_bits_survive_every_way() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG")
    np.testing.assert_array_equal(np.asarray(rgba.read(buffer)), samples)
    np.testing.assert_array_equal(np.asarray(rgba.to_pil(rgba.read_array(buffer))), samples)
    np.testing.assert_array_equal(rgba.to_array(rgba.read(buffer)), rgba.read_array(buffer))


def test_png_with_provenance(tmp_path: Path) -> None:
    path, image = tmp_path / "a.png", Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    metadata = {"task": "matting_auto", "prompt": 'a "glass" 玻璃', "seed": 7, "broken path": "\udcff"}
    rgba.save_png(image, path, metadata)
    assert rgba.read_metadata(path) == metadata
    assert rgba.read(path) == image
    with pytest.raises(OutputError, match="exists already"):
        rgba.save_png(image, path)
    first = path.read_bytes()
    rgba.save_png(image, path, metadata, overwrite=True)
    assert path.read_bytes() == first


def test_pictures_without_provenance(tmp_path: Path) -> None:
    rgba.save_png(Image.new("L", (1, 1)), tmp_path / "a.png")
    assert rgba.read_metadata(tmp_path / "a.png") == {}
    notes = PngInfo()
    notes.add_text("omnialpha", "[1]")
    Image.new("L", (1, 1)).save(tmp_path / "c.png", pnginfo=notes)
    with pytest.raises(ImageError, match="c.png: its metadata is not a JSON object"):
        rgba.read_metadata(tmp_path / "c.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="b.png: "):
        rgba.read_metadata(tmp_path / "b.png")


@pytest.mark.parametrize(("shape", "expected"), [((2, 3), (128, 128, 128, 255)), ((2, 3, 3), (128, 128, 128, 255)),
                                                 ((2, 3, 4), (128, 128, 128, 128))])  # fmt: skip
def test_to_pil_accepts_grey_rgb_and_rgba(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    for array in (np.full(shape, 0.5), np.full(shape, 128, np.uint8), np.full(shape, 0.5, np.float16)):
        image = rgba.to_pil(array)
        assert image.size == (3, 2)
        assert image.getpixel((0, 0)) == expected


def test_to_pil_clips_and_refuses() -> None:
    assert rgba.to_pil(np.array([[[-3.0, 3.0, 0.999]]])).getpixel((0, 0)) == (0, 255, 255, 255)
    for array, reason in {
        "nan": (np.full((1, 1), np.nan), "NaN"),
        "integers": (np.full((1, 1), 3), "float in .* or uint8, not int64"),
        "channels": (np.zeros((1, 1, 2)), r"not \(1, 1, 2\)"),
        "batch": (np.zeros((1, 1, 1, 4)), r"not \(1, 1, 1, 4\)"),
        "empty": (np.zeros((0, 3, 4)), r"not \(0, 3, 4\)"),
    }.values():
        with pytest.raises(InputError, match=reason):
            rgba.to_pil(array)


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_to_array_refuses_what_pillow_would_cut(mode: str) -> None:
    with pytest.raises(InputError, match="does not fit 8 bits; open the file with"):
        rgba.to_array(Image.new(mode, (1, 1)))


@settings(deadline=None)
@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(0, 1, width=32)))
def test_premultiply_is_undone_where_anything_is_visible(image: np.ndarray) -> None:
    premultiplied = rgba.premultiply(image)
    assert (premultiplied[..., :3] <= image[..., 3:]).all()
    back = rgba.unpremultiply(premultiplied)
    visible = image[..., 3] > 1e-30
    np.testing.assert_allclose(back[visible], image[visible], atol=1e-12)
    np.testing.assert_array_equal(back[image[..., 3] == 0], 0)
