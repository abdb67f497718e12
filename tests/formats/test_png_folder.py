"""The PNG folder: its manifest, and what must not happen to a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnialpha.errors import ImageError, OutputError
from omnialpha.formats import png_folder
from stacks import difference, sample_stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    png_folder.write(sample_stack(), tmp_path / "layers")
    return tmp_path / "layers"


def _change(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_files_and_manifest_can_be_used_without_this_library(folder: Path) -> None:
    stack = sample_stack()
    names = ["00-background.png", "01-glass.png", "02-hidden.png", "03-glow.png", "manifest.json", "merged.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["size"] == [31, 23]
    assert manifest["layers"][1] == {
        "file": "01-glass.png", "name": "玻璃杯 «glass»", "opacity": 0.37, "visible": True, "offset": [-7, 11]
    }  # fmt: skip
    assert difference(Image.open(folder / "01-glass.png"), stack[1].image) == 0
    assert difference(Image.open(folder / "merged.png"), stack.flatten()) == 0


def test_only_a_folder_of_layers_is_ever_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "holiday.jpg").touch()
    with pytest.raises(OutputError, match=r"holds other files than layers \(holiday.jpg\), not replaced"):
        png_folder.write(sample_stack(), folder, overwrite=True)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").touch()
    with pytest.raises(OutputError, match="holds other files than layers, not replaced"):
        png_folder.write(sample_stack(), pictures, overwrite=True)
    assert (pictures / "a.png").exists()
    with pytest.raises(OutputError, match="is a file where a folder was expected"):
        png_folder.write(sample_stack(), pictures / "a.png", overwrite=True)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    png_folder.write(sample_stack(), tmp_path / "layers")
    assert len(png_folder.read(tmp_path / "layers")) == 4


def test_a_manifest_written_by_hand_may_be_short(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.jpg")
    manifest = {"format": "omnialpha layers", "version": 1, "size": [3, 2], "layers": [{"file": "a.jpg"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (layer,) = png_folder.read(tmp_path)
    assert (layer.name, layer.opacity, layer.visible, layer.offset) == ("", 1.0, True, (0, 0))


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "a/b.png", "..\\secret.png", "", None, 3, ".."])
def test_a_manifest_cannot_reach_outside_its_folder(folder: Path, file: Any) -> None:
    _change(folder, layers=[{"file": file}])
    with pytest.raises(ImageError, match=r"manifest.json: the file of a layer is .*, not a name inside|is a folder"):
        png_folder.read(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": [3]}, "its size is"),
        ({"size": [3, "x"]}, "its size is 'x', not a whole number"),
        ({"size": [1e300, 3]}, "more than the 67 million"),
        ({"size": [0, 3]}, "has no pixels"),
        ({"layers": {}}, "has no list of layers"),
        ({"layers": [7]}, "its layer is int, not an object"),
        ({"layers": [{"file": "00-background.png", "opacity": "a"}]}, "the opacity of a layer is 'a'"),
        ({"layers": [{"file": "00-background.png", "opacity": float("nan")}]}, "the opacity of a layer is nan"),
        ({"layers": [{"file": "00-background.png", "offset": [0.5, 0]}]}, "its offset is 0.5, not a whole number"),
        ({"layers": [{"file": "missing.png"}]}, "missing.png: no such file"),
        ({"metadata": []}, "its metadata is list, not an object"),
        ({"version": 2}, "has version 2, known is 1; update"),
        ({"format": "x"}, "this is not a folder of layers"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(folder: Path, changes: dict[str, Any], reason: str) -> None:
    _change(folder, **changes)
    with pytest.raises(ImageError, match=reason) as caught:
        png_folder.read(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="manifest.json: no such file"):
        png_folder.read(tmp_path)
