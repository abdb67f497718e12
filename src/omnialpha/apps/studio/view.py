"""What the page shows of a stack: pictures over a backdrop, as text that a page can hold."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.backdrop import checkerboard, lay_over
from omnialpha.imaging.layers import Layer, LayerStack

SIDE = 2048
"""Longest side of what is shown, in pixels. Files hold the full size."""

THUMBNAIL = 72
_QUALITY = 92
_SQUARES = 48  # of the checkerboard along the longer side
_LEAST_SQUARE = 4  # pixels


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """What lies behind the layers; it is never part of a file.

    Attributes:
        kind: "checkerboard", "black", "white", "colour" or "picture".
        colour: For "colour", as #rrggbb or rgb(…).
        picture: For "picture".
    """

    kind: str = "checkerboard"
    colour: str | None = None
    picture: Path | None = None


def over_backdrop(image: Image.Image, backdrop: Backdrop) -> Image.Image:
    """Lay a picture over the chosen backdrop.

    Args:
        image: "RGBA".
        backdrop: The choice; without its colour or picture it is the checkerboard.

    Returns:
        "RGB" image of the same size.

    Raises:
        InputError: The colour cannot be understood.
        ImageError: The picture cannot be read.
    """
    if backdrop.kind in ("black", "white"):
        return lay_over(image, backdrop.kind)
    if backdrop.kind == "colour" and backdrop.colour:
        return lay_over(image, _colour(backdrop.colour))
    if backdrop.kind == "picture" and backdrop.picture is not None:
        return lay_over(image, rgba.read(backdrop.picture))
    return lay_over(image, checkerboard(image.size, cell=max(_LEAST_SQUARE, max(image.size) // _SQUARES)))


def shrunk(stack: LayerStack, side: int = SIDE) -> LayerStack:
    """The stack at a size that is shown at once; itself when it is small enough."""
    factor = side / max(stack.size)
    if factor >= 1:
        return stack

    def scaled(size: tuple[int, int]) -> tuple[int, int]:
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    layers = [
        Layer(
            layer.image.resize(scaled(layer.image.size), Image.Resampling.LANCZOS),
            layer.name,
            layer.opacity,
            layer.visible,
            (round(layer.offset[0] * factor), round(layer.offset[1] * factor)),
        )
        for layer in stack
    ]
    return LayerStack(layers, scaled(stack.size), stack.metadata)


def before_and_after(
    picture: Image.Image | None, shown: Image.Image, backdrop: Backdrop
) -> tuple[Image.Image, Image.Image] | None:
    """The pair for the slider, of one size.

    Args:
        picture: "RGBA", what was given; None when the task starts from words.
        shown: "RGB", the layers over the backdrop.
        backdrop: Behind what is transparent in the picture.
    """
    if picture is None:
        return None
    same_size = picture if picture.size == shown.size else picture.resize(shown.size, Image.Resampling.LANCZOS)
    return over_backdrop(same_size, backdrop), shown


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> Image.Image:
    """A small "RGB" version over a checkerboard."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return over_backdrop(small, Backdrop())


def data_uri(image: Image.Image) -> str:
    """An opaque picture as a JPEG inside a link.

    >>> data_uri(Image.new("RGB", (1, 1)))[:23]
    'data:image/jpeg;base64,'
    """
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _colour(text: str) -> str:
    """A colour as Gradio's picker writes it, ``rgba(12.5, 3, 255, 1)``, in words that Pillow knows."""
    if not text.startswith("rgb"):
        return text
    try:
        numbers = [float(part) for part in text[text.index("(") + 1 : text.rindex(")")].split(",")[:3]]
        return "#{:02x}{:02x}{:02x}".format(*(min(max(round(number), 0), 255) for number in numbers))
    except (ValueError, IndexError) as error:
        raise InputError(f'"{text}" is no colour; write it as #rrggbb') from error
