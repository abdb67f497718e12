"""PowerPoint files as python-pptx and the XML itself show them."""

import io
from pathlib import Path

import pptx
import pytest
from PIL import Image

from omnialpha.formats import pptx as pptx_format
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

INCH = 914_400


def _pictures(path: Path) -> tuple[pptx.presentation.Presentation, list]:
    presentation = pptx.Presentation(str(path))
    (slide,) = presentation.slides
    return presentation, list(slide.shapes)


def test_a_picture_per_layer_at_its_place(tmp_path: Path) -> None:
    stack = sample_stack()
    stack.metadata["dpi"] = [20.0, 10.0]
    pptx_format.write(stack, tmp_path / "a.pptx")
    presentation, pictures = _pictures(tmp_path / "a.pptx")
    across, down = INCH / 20, INCH / 10
    assert (presentation.slide_width, presentation.slide_height) == (31 * across, 23 * down)
    assert [picture.name for picture in pictures] == [layer.name for layer in stack]
    for picture, layer in zip(pictures, stack, strict=True):
        place = (picture.left / across, picture.top / down, picture.width / across, picture.height / down)
        assert place == pytest.approx((*layer.offset, *layer.image.size))
        assert difference(Image.open(io.BytesIO(picture.image.blob)), layer.image) == 0
    amounts = [picture._element.xpath("string(.//a:alphaModFix/@amt)") for picture in pictures]
    assert amounts == ["", "37000", "", "50000"]
    assert [picture._element.nvPicPr.cNvPr.get("hidden") for picture in pictures] == [None, None, "1", None]


@pytest.mark.parametrize(
    ("size", "inches"),
    [((96, 192), (1, 2)), ((48, 96), (1, 2)), ((9600, 96), (56, 1)), ((6000, 6000), (56, 56))],
)
def test_the_slide_has_a_size_that_powerpoint_takes(
    tmp_path: Path, size: tuple[int, int], inches: tuple[float, float]
) -> None:
    """1 to 56 inches a side; a picture longer than 1 : 56 leaves a strip of the slide empty."""
    pptx_format.write(LayerStack([Layer(noise(4, 4, 0))], size), tmp_path / "a.pptx")
    presentation, _ = _pictures(tmp_path / "a.pptx")
    found = (presentation.slide_width, presentation.slide_height)
    assert found == pytest.approx([side * INCH for side in inches], abs=1)
