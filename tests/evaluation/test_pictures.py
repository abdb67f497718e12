"""What files of targets and predictions turn into, and what is said about it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnialpha.errors import ImageError
from omnialpha.evaluation.pictures import read_layers, read_matte, read_rgb, read_rgba, resize, resize_trimap

RAMP = np.linspace(0, 255, 12).astype(np.uint8).reshape(3, 4)


def saved(array: np.ndarray, path: Path) -> Path:
    Image.fromarray(array).save(path)
    return path


def matte(path: Path, kind: str = "prediction") -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_matte(path, notes.append, kind=kind), notes


def test_grey_and_alpha_channel(tmp_path: Path) -> None:
    for array in (RAMP, np.dstack([RAMP, RAMP, RAMP]), np.dstack([255 - RAMP, RAMP // 2, RAMP, RAMP])):
        found, notes = matte(saved(array, tmp_path / "a.png"))
        np.testing.assert_array_equal(found, RAMP)
        assert notes == []


def test_sixteen_bits_are_kept_and_reported(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 40000, 65535]], np.uint16)
    found, notes = matte(saved(deep, tmp_path / "a.png"))
    np.testing.assert_array_equal(found, deep / 65535)
    assert notes == ["prediction: 16 bits per channel, kept at full precision"]


def test_mask_of_several_channels(tmp_path: Path) -> None:
    path = saved(np.dstack([RAMP, 255 - RAMP, RAMP // 3]), tmp_path / "a.png")
    found, notes = matte(path, "target")
    np.testing.assert_array_equal(found, RAMP)
    assert notes == ["target: mask of several channels that differ, the first is used"]
    with pytest.raises(ImageError, match=r"a\.png: is a colour picture"):
        matte(path)


def test_opaque_rgba_of_a_grey_matte(tmp_path: Path) -> None:
    found, notes = matte(saved(np.dstack([RAMP] * 3 + [np.full_like(RAMP, 255)]), tmp_path / "a.png"))
    np.testing.assert_array_equal(found, RAMP)
    assert len(notes) == 1
    opaque = np.full((2, 2, 4), 255, np.uint8)  # a cut-out that is opaque everywhere, not a matte
    assert (matte(saved(opaque, tmp_path / "b.png"))[0] == 255).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.5, np.nan]]), "NaN"),
        (np.array([[0.5, 1.5]]), r"\[0.5, 1.5\]"),
        (np.array([[1, 2]]), "int64"),
        (np.zeros((2, 2, 2)), r"\(2, 2, 2\)"),
    ],
)
def test_arrays_that_are_no_matte(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ImageError, match=message):
        matte(tmp_path / "a.npy")


def test_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", (RAMP / 255).astype(np.float32))
    found, notes = matte(tmp_path / "a.npy")
    np.testing.assert_allclose(found, RAMP / 255, atol=1e-7)
    assert notes == []


def test_translucent_picture_over_white(tmp_path: Path) -> None:
    notes: list[str] = []
    red = np.full((1, 1, 4), [255, 0, 0, 128], np.uint8)
    assert read_rgb(saved(red, tmp_path / "a.png"), notes.append, kind="prediction").tolist() == [[[255, 127, 127]]]
    assert len(notes) == 1
    assert read_rgba(saved(RAMP, tmp_path / "b.png"), notes.append, kind="prediction")[..., 3].min() == 255


def test_layers_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    from omnialpha.imaging.layers import Layer, LayerStack

    layers = [np.full((2, 3, 4), value, np.uint8) for value in (255, 100)]
    (tmp_path / "stack").mkdir()
    for index, layer in enumerate(layers):
        saved(layer, tmp_path / "stack" / f"{index:04}.png")
    LayerStack([Layer(image=Image.fromarray(layer)) for layer in layers]).save(tmp_path / "stack.ora")
    for path in (tmp_path / "stack", tmp_path / "stack.ora"):
        np.testing.assert_array_equal(read_layers(path, print, kind="target"), layers)
    saved(np.zeros((2, 2, 4), np.uint8), tmp_path / "stack" / "0002.png")
    with pytest.raises(ImageError, match=r"0002\.png: is of another size"):
        read_layers(tmp_path / "stack", print, kind="target")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no layers"):
        read_layers(tmp_path / "empty", print, kind="target")


def test_resize_keeps_constants_and_does_not_bleed_hidden_colours() -> None:
    half = np.full((6, 8), 51, np.uint8)
    np.testing.assert_allclose(resize(half, (5, 3)), 0.2, atol=1e-6)
    assert resize(half, (8, 6)) is half
    picture = np.zeros((8, 8, 4))
    picture[:, :4] = [1, 0, 0, 1]  # opaque red beside fully transparent green
    picture[:, 4:] = [0, 1, 0, 0]
    small = resize(picture, (5, 5))
    np.testing.assert_allclose(
        small[small[..., 3] > 0.01][:, :3], [[1, 0, 0]] * (small[..., 3] > 0.01).sum(), atol=1e-5
    )
    assert set(np.unique(resize_trimap(np.repeat(np.array([[0, 128, 255]], np.uint8), 3, 0), (7, 7)))) == {0, 128, 255}
