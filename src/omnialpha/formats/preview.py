"""An animation of the layers coming apart, as GIF or WebP: to show, not to work with. Written only.

The flat picture turns aside and its layers fan out like cards, the background at the left; after a rest they come back.
"""

import os
from pathlib import Path

from PIL import Image, ImageDraw

from omnialpha.formats import _checks
from omnialpha.imaging.backdrop import checkerboard
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack

_LONGEST_SIDE = 360  # of the flat picture in the animation, in pixels
_STEPS = 16  # frames of coming apart
_FRAME_MS, _REST_MS = 50, 1200
_PAGE = (244, 244, 242, 255)
_FRAME = (120, 120, 120, 255)
_TURN = 0.45  # share of its width that a card loses when it has turned aside
_SHEAR = 0.22  # how far the right side of a turned card rises, as a share of its width
_SPREAD = 2.2  # distance of the first and the last of many cards, in widths of the picture


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the animation, which appears only when it is complete: a GIF, or a WebP where the suffix says so.

    Args:
        stack: What to show; hidden layers are left out.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    cards, size = _cards(_checks.at_least_one(stack))
    flat = _on_checkerboard(_scaled(stack.flatten(), size))
    opening = [_frame(cards, flat, _eased(step / _STEPS)) for step in range(_STEPS + 1)]
    frames = [*opening, *opening[-2:0:-1]]
    durations = [_FRAME_MS] * len(frames)
    durations[0] = durations[_STEPS] = _REST_MS
    if Path(path).suffix.lower() == ".webp":
        kind, options = "WEBP", {"quality": 85}
    else:
        # One palette for all, so that colours do not flicker, and dithered: photographs have more than 256.
        palette = opening[_STEPS].quantize(256)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
        kind, options = "GIF", {"disposal": 1}
    with atomic_write(path, overwrite=overwrite) as temporary:
        frames[0].save(temporary, kind, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)


def _cards(stack: LayerStack) -> tuple[list[Image.Image], tuple[int, int]]:
    """Each visible layer alone on the canvas, made smaller, and the size of these pictures."""
    factor = min(1.0, _LONGEST_SIDE / max(stack.size))
    size = max(round(stack.size[0] * factor), 1), max(round(stack.size[1] * factor), 1)
    shown = [number for number, layer in enumerate(stack) if layer.visible] or [0]
    return [_scaled(stack[number : number + 1].flatten(), size) for number in shown], size


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    # Premultiplied, so that the colours of transparent pixels do not bleed into the edges.
    return image.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")


def _on_checkerboard(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(checkerboard(image.size), image)


def _eased(time: float) -> float:
    """Slow at both ends, for time from 0 to 1."""
    return time * time * (3 - 2 * time)


def _frame(cards: list[Image.Image], flat: Image.Image, apart: float) -> Image.Image:
    """The picture at a moment: ``apart`` goes from 0, the flat picture, to 1, the cards fanned out."""
    width, height = flat.size
    distance = min(0.75 * width, _SPREAD * width / max(len(cards) - 1, 1))
    margin = 12
    page = Image.new(
        "RGBA",
        (
            max(width, round((1 - _TURN) * width + (len(cards) - 1) * distance)) + 2 * margin,
            height + round(_SHEAR * width) + 2 * margin,
        ),
        _PAGE,
    )
    if apart == 0:
        page.alpha_composite(flat, ((page.width - width) // 2, (page.height - height) // 2))
        return page.convert("RGB")
    for number, card in enumerate(cards):
        framed = _on_checkerboard(card) if number == 0 else card.copy()
        ImageDraw.Draw(framed).rectangle((0, 0, width - 1, height - 1), outline=(*_FRAME[:3], round(255 * apart)))
        centre_x = page.width / 2 + apart * distance * (number - (len(cards) - 1) / 2)
        squeeze, rise = 1 - _TURN * apart, -_SHEAR * apart
        # From a place on the page to a place on the card: the inverse of squeezing and shearing about the centre.
        from_x = (1 / squeeze, 0.0, width / 2 - centre_x / squeeze)
        from_y = (-rise / squeeze, 1.0, height / 2 - page.height / 2 + rise * centre_x / squeeze)
        turned = framed.convert("RGBa").transform(
            page.size, Image.Transform.AFFINE, (*from_x, *from_y), Image.Resampling.BILINEAR
        )
        page = Image.alpha_composite(page, turned.convert("RGBA"))
    return page.convert("RGB")
