"""PowerPoint: one slide of the picture's size, a picture per layer at its place. Written only.

Names, places, opacity and visibility are those that PowerPoint's selection pane shows.
"""

import io
import os
import zipfile
from datetime import UTC, datetime
from typing import Any

from omnialpha.extras import require
from omnialpha.formats import _manifest, _text
from omnialpha.formats._flat import png_bytes
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack

_EMU_PER_INCH = 914_400
_SHORTEST, _LONGEST = _EMU_PER_INCH, 56 * _EMU_PER_INCH  # sides of a slide
_PIXELS_PER_INCH = 96.0  # PowerPoint's own, for a stack that states no resolution
_BLANK = 6  # number of the layout without placeholders in the default template
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)  # a fixed time stamp: the same stack gives the same bytes


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as a presentation of one slide, which appears only when it is complete.

    Args:
        stack: What to write; a slide has 1 to 56 inches, so small pictures are enlarged and large ones reduced.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
        MissingExtraError: The extra ``formats`` is not installed.
    """
    presentation = require("pptx", extra="formats").Presentation()
    across, down = _emu_per_pixel(stack)
    # A picture longer than 1 : 56 leaves a strip of the slide empty.
    presentation.slide_width = max(round(stack.size[0] * across), _SHORTEST)
    presentation.slide_height = max(round(stack.size[1] * down), _SHORTEST)
    slide = presentation.slides.add_slide(presentation.slide_layouts[_BLANK])
    for number, layer in enumerate(stack, start=1):
        x, y, width, height = *layer.offset, *layer.image.size
        picture = slide.shapes.add_picture(
            io.BytesIO(png_bytes(layer.image)),
            round(x * across), round(y * down), round(width * across), round(height * down),
        )  # fmt: skip
        picture.name = _text.for_xml(layer.name, number)
        if layer.opacity < 1:
            (blip,) = picture._element.xpath(".//a:blip")
            tag = "{http://schemas.openxmlformats.org/drawingml/2006/main}alphaModFix"
            blip.append(blip.makeelement(tag, {"amt": str(round(layer.opacity * 100_000))}))
        if not layer.visible:
            picture._element.nvPicPr.cNvPr.set("hidden", "1")
    properties = presentation.core_properties
    properties.created = properties.modified = _EPOCH.replace(tzinfo=None)
    with atomic_write(path, overwrite=overwrite) as temporary:
        _save(presentation, temporary)


def _emu_per_pixel(stack: LayerStack) -> tuple[float, float]:
    """Size of a pixel across and down, such that the slide has a size that PowerPoint takes."""
    across, down = (_EMU_PER_INCH / dpi for dpi in _manifest.dpi(stack) or (_PIXELS_PER_INCH, _PIXELS_PER_INCH))
    sides = stack.size[0] * across, stack.size[1] * down
    factor = max(_SHORTEST / min(sides), 1.0)
    factor = min(factor, _LONGEST / max(sides))
    return across * factor, down * factor


def _save(presentation: Any, path: os.PathLike[str]) -> None:
    """Save without the time of day, which python-pptx gives every member of the archive."""
    buffer = io.BytesIO()
    presentation.save(buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            fixed = zipfile.ZipInfo(member, _EPOCH.timetuple()[:6])
            target.writestr(fixed, source.read(member), zipfile.ZIP_DEFLATED)
