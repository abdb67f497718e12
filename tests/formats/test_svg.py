"""SVG: layers that Inkscape shows, pictures embedded; nothing outside the file is ever read."""

import base64
import io
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from omnialpha.errors import ImageError
from omnialpha.formats import svg
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

SVG = "{http://www.w3.org/2000/svg}"
INKSCAPE = "{http://www.inkscape.org/namespaces/inkscape}"
HREF = "{http://www.w3.org/1999/xlink}href"


def _data(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _document(path: Path, body: str, view: str = "0 0 9 8") -> Path:
    head = 'xmlns="http://www.w3.org/2000/svg" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"'
    path.write_text(f'<svg {head} viewBox="{view}">{body}</svg>', encoding="utf-8")
    return path


def test_the_file_holds_inkscape_layers_with_embedded_pictures(tmp_path: Path) -> None:
    stack = sample_stack()
    svg.write(stack, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    groups = root.findall(f"{SVG}g")
    assert {group.get(f"{INKSCAPE}groupmode") for group in groups} == {"layer"}
    assert [group.get(f"{INKSCAPE}label") for group in groups] == [layer.name for layer in stack]
    assert [group.get("opacity") for group in groups] == ["1.0", "0.37", "1.0", "0.5"]
    assert [group.get("style") for group in groups] == [None, None, "display:none", None]
    for group, layer in zip(groups, stack, strict=True):
        (image,) = group
        assert [image.get(key) for key in ("x", "y", "width", "height")] == [
            str(number) for number in (*layer.offset, *layer.image.size)
        ]
        content = base64.b64decode(str(image.get(HREF)).partition(",")[2])
        assert difference(Image.open(io.BytesIO(content)), layer.image) == 0


@pytest.mark.skipif(shutil.which("rsvg-convert") is None, reason="needs rsvg-convert (librsvg)")
def test_librsvg_draws_the_flattened_stack(tmp_path: Path) -> None:
    stack = sample_stack()
    stack.metadata["dpi"] = [96.0, 96.0]
    svg.write(stack, tmp_path / "a.svg")
    command = ["rsvg-convert", "-w", "31", "-h", "23", str(tmp_path / "a.svg"), "-o", str(tmp_path / "a.png")]
    subprocess.run(command, check=True)
    drawn, white = Image.open(tmp_path / "a.png").convert("RGBA"), Image.new("RGBA", (31, 23), "white")
    expected = Image.alpha_composite(white, stack.flatten())
    assert difference(Image.alpha_composite(white, drawn), expected) <= 2


def test_resolution_is_the_size_in_inches(tmp_path: Path) -> None:
    svg.write(LayerStack([Layer(noise(30, 20, 0))], metadata={"dpi": [300.0, 200.0]}), tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert (root.get("width"), root.get("height")) == ("0.100000in", "0.100000in")
    root.find(f"{SVG}metadata").clear()  # type: ignore[union-attr]
    ElementTree.ElementTree(root).write(tmp_path / "b.svg")
    assert svg.read(tmp_path / "b.svg").metadata == {"dpi": [300.0, 200.0]}


def test_groups_of_groups_hand_down_what_they_do(tmp_path: Path) -> None:
    a, b = noise(3, 3, 0), noise(4, 2, 1).convert("RGB")
    body = f"""<defs><g><image width="3" height="3" href="{_data(a)}"/></g></defs>
        <g inkscape:label="outer" style="opacity: 0.5; display: inline">
            <g inkscape:label="inner" display="none"><image x="2" y="-1" width="3" height="3" href="{_data(a)}"/></g>
            <image opacity="0.5" width="4" height="2" href="{_data(b, "JPEG")}"/>
        </g>"""
    stack = svg.read(_document(tmp_path / "a.svg", body, view="1 1 9 8"))
    assert stack.size == (9, 8)
    assert [(layer.name, layer.offset, layer.opacity, layer.visible) for layer in stack] == [
        ("inner", (1, -2), 0.5, False),
        ("outer", (-1, -1), 0.25, True),
    ]
    assert difference(stack[0].image, a) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<image width="3" height="3" href="/etc/passwd"/>', "refers to a picture outside of itself"),
        ('<image width="3" height="3" href="https://localhost/a.png"/>', "refers to a picture outside of itself"),
        ('<image width="3" height="3" href="data:image/png;base64,AAA"/>', "is damaged"),
        ('<g transform="scale(2)"/>', "transform"),
        ('<path d="M0 0"/>', "draws a path"),
        (f'<image width="6" height="6" href="{_data(noise(3, 3, 0))}"/>', "of 3×3 pixels at 6×6"),
        ('<g opacity="2"/>', "opacity of a layer is '2'"),
    ],
)
def test_what_is_no_stack_of_pictures_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ImageError, match=f"a.svg: .*{message}"):
        svg.read(_document(tmp_path / "a.svg", body))


@pytest.mark.parametrize("view", ["", "0 0 9", "0 0 9.5 8", "0 0 x y"])
def test_a_canvas_of_no_whole_pixels_is_refused(tmp_path: Path, view: str) -> None:
    with pytest.raises(ImageError, match="a.svg: .*viewBox"):
        svg.read(_document(tmp_path / "a.svg", "", view))
