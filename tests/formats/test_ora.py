"""OpenRaster: the file by the letter of its specification, and files of other programs."""

import io
import json
import logging
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from omnialpha.errors import ImageError
from omnialpha.formats import ora
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _archive(path: Path, stack_xml: str, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "image/openraster", zipfile.ZIP_STORED)
        archive.writestr("stack.xml", stack_xml)
        for name, content in members.items():
            archive.writestr(f"data/{name}.png", content)
    return path


def test_the_file_follows_the_specification(tmp_path: Path) -> None:
    stack = sample_stack()
    ora.write(stack, tmp_path / "a.ora")
    # The type of the file shows in its first bytes: name and content of a member that is first and not compressed.
    assert (tmp_path / "a.ora").read_bytes()[30:54] == b"mimetypeimage/openraster"
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        assert archive.testzip() is None
        image = ElementTree.fromstring(archive.read("stack.xml"))
        assert (image.tag, image.get("w"), image.get("h")) == ("image", "31", "23")
        (root,) = image
        assert [layer.get("name") for layer in root] == ["glow", "hidden", "玻璃杯 «glass»", "background"]
        glass = root[2]
        assert (glass.get("x"), glass.get("y"), glass.get("opacity")) == ("-7", "11", "0.37")
        assert [layer.get("visibility") for layer in root] == ["visible", "hidden", "visible", "visible"]
        assert {layer.get("composite-op") for layer in root} == {"svg:src-over"}
        for element, layer in zip(root, reversed(stack), strict=True):
            stored = Image.open(io.BytesIO(archive.read(str(element.get("src")))))
            assert difference(stored, layer.image) == 0
        assert difference(Image.open(io.BytesIO(archive.read("mergedimage.png"))), stack.flatten()) == 0
        assert json.loads(archive.read("omnialpha/metadata.json")) == stack.metadata


def test_the_thumbnail_is_small_and_has_the_shape_of_the_picture(tmp_path: Path) -> None:
    ora.write(LayerStack([Layer(noise(600, 300, 0))]), tmp_path / "a.ora")
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        assert Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))).size == (256, 128)


def test_groups_are_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As Krita and MyPaint write them: nested stacks, missing attributes, other operations."""
    xml = """<image w="9" h="8"><stack>
        <layer name="top" src="data/a.png" composite-op="svg:multiply"/>
        <stack name="group" x="2" y="1" opacity="0.5" visibility="hidden">
            <layer name="inner" src="data/b.png" x="1" y="-3" opacity="0.5"/>
            <layer name="lower" src="data/a.png"/>
        </stack>
        <text name="words"/>
        <layer src="data/a.png" visibility="visible"/>
    </stack></image>"""
    a, b = noise(3, 3, 0), noise(4, 2, 1)
    path = _archive(tmp_path / "a.ora", xml, a=_png(a), b=_png(b))
    with caplog.at_level(logging.WARNING, "omnialpha"):
        stack = ora.read(path)
    assert stack.size == (9, 8)
    assert [(layer.name, layer.offset, layer.opacity, layer.visible) for layer in stack] == [
        ("", (0, 0), 1.0, True),
        ("lower", (2, 1), 0.5, False),
        ("inner", (3, -2), 0.25, False),
        ("top", (0, 0), 1.0, True),
    ]
    assert difference(stack[2].image, b) == 0
    for part in ('"top" is composed as "svg:multiply"', 'opacity of group "group"', '"words" is a text, not a layer'):
        assert part in caplog.text


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("<image w='2' h='2'><stack><layer src='data/none.png'/></stack></image>", 'lacks "data/none.png"'),
        ("<image w='2' h='2'><stack><layer/></stack></image>", 'lacks ""'),
        ("<image w='2' h='2'></image>", "lists no layers"),
        ("<image w='2.5' h='2'><stack/></image>", "its width is '2.5', not a whole number"),
        ("<image><stack/></image>", "its width is None, not a whole number"),
        ("<image w='99999' h='99999'><stack/></image>", "more than the 67 million"),
        ("<image w='2' h='2'><stack><layer src='data/a.png' x='inf'/></stack></image>", "its offset is 'inf'"),
        (
            "<image w='2' h='2'><stack><layer src='data/a.png' opacity='2'/></stack></image>",
            "the opacity of a layer is",
        ),
        ("<image w='2' h='2'><stack><layer src='data/bad.png'/></stack></image>", r"a.ora \(data/bad.png\): is not a"),
        ("<image", "cannot be read"),
    ],
)
def test_damaged_descriptions_say_what_is_wrong(tmp_path: Path, xml: str, reason: str) -> None:
    path = _archive(tmp_path / "a.ora", xml, a=_png(noise(2, 2, 0)), bad=b"no picture")
    with pytest.raises(ImageError, match=reason) as caught:
        ora.read(path)
    assert "a.ora" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ora").write_bytes(b"no archive")
    with pytest.raises(ImageError, match="a.ora: is not a complete OpenRaster file"):
        ora.read(tmp_path / "a.ora")
    with zipfile.ZipFile(tmp_path / "b.ora", "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    with pytest.raises(ImageError, match="b.ora: is a ZIP file, but not OpenRaster"):
        ora.read(tmp_path / "b.ora")
    with zipfile.ZipFile(tmp_path / "c.ora", "w") as archive:
        archive.writestr("stack.xml", "<image/>")
    with pytest.raises(ImageError, match='c.ora: lacks "mimetype"'):
        ora.read(tmp_path / "c.ora")


def test_members_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xml = f"<image w='2' h='2'><stack/>{' ' * 5000}</image>"
    monkeypatch.setattr(ora, "_MAX_TEXT_BYTES", 1000)
    with pytest.raises(ImageError, match='"stack.xml" unpacks to more than 1000 bytes'):
        ora.read(_archive(tmp_path / "a.ora", xml))


def test_an_entity_bomb_does_not_unfold(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 30))
    xml = f'<!DOCTYPE image [<!ENTITY e0 "xxxxxxxxxx">{entities}]><image w="1" h="1"><stack name="&e29;"/></image>'
    with pytest.raises(ImageError, match="cannot be read"):
        ora.read(_archive(tmp_path / "a.ora", xml))


@pytest.mark.parametrize(("attributes", "metadata"), [('xres="300" yres="150"', {"dpi": [300.0, 150.0]}), ("", {})])
def test_the_resolution_is_read(tmp_path: Path, attributes: str, metadata: dict) -> None:
    path = _archive(tmp_path / "a.ora", f'<image w="9" h="8" {attributes}><stack/></image>')
    assert ora.read(path).metadata == metadata
