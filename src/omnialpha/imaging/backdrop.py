"""What lies behind a transparent picture when it is shown: a checkerboard, a colour, another picture."""

import numpy as np
from PIL import Image, ImageOps

from omnialpha.errors import InputError

LIGHT, DARK = 255, 205  # greys of the checkerboard


def checkerboard(size: tuple[int, int], cell: int = 8) -> Image.Image:
    """The sign of transparency.

    Args:
        size: Width and height in pixels.
        cell: Side of a square in pixels, at least 1.

    Returns:
        Opaque "RGBA" image; the left upper square is white.

    Raises:
        InputError: ``cell`` is not positive.

    >>> checkerboard((2, 1), cell=1).getpixel((1, 0))
    (205, 205, 205, 255)
    """
    if cell < 1:
        raise InputError(f"a square of the checkerboard has a side of at least 1 pixel, not {cell}")
    squares = (np.indices(size[::-1]) // cell).sum(axis=0) % 2
    return Image.fromarray(np.where(squares, DARK, LIGHT).astype(np.uint8)).convert("RGBA")


def lay_over(image: Image.Image, backdrop: Image.Image | str) -> Image.Image:
    """Show a picture over something.

    Args:
        image: "RGBA", straight alpha.
        backdrop: A picture, which is scaled and cropped to cover the image's size, or a colour that Pillow knows.

    Returns:
        "RGB" image of the same size.

    Raises:
        InputError: The colour is unknown.

    >>> lay_over(Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "#00ff00").getpixel((0, 0))
    (0, 255, 0)
    """
    if isinstance(backdrop, str):
        try:
            board = Image.new("RGBA", image.size, backdrop)
        except ValueError as error:
            raise InputError(f'"{backdrop}" is no colour; write it as #rrggbb') from error
    else:
        board = ImageOps.fit(backdrop.convert("RGBA"), image.size, Image.Resampling.LANCZOS)
        board.putalpha(255)
    board.alpha_composite(image)
    return board.convert("RGB")
