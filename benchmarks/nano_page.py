"""The page of pictures that `nano.py` makes: what went in, what was wanted, what came out; best, median and worst."""

from collections.abc import Sequence

import numpy as np
from nano_scores import Result
from PIL import Image, ImageDraw

from omnialpha.imaging.backdrop import checkerboard, lay_over
from omnialpha.imaging.rgba import to_pil

SIDE = 96
GAP = 4
WORDS = 30  # height of the words over each result
COLUMNS = ("best", "median", "worst")


def page(rows: Sequence[tuple[str, Sequence[tuple[Result, float]]]]) -> Image.Image:
    """One row of three results each, all pictures over a checkerboard.

    Args:
        rows: Task and its results, one of the best, of the median and of the worst, with their errors.
    """
    tiles = max(len(_pictures(result)) for _, results in rows for result, _ in results)
    cell = (SIDE + GAP) * tiles + 6 * GAP, SIDE + WORDS + GAP
    sheet = Image.new("RGB", (cell[0] * len(COLUMNS), cell[1] * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    board = checkerboard((SIDE, SIDE))
    for row, (task_id, results) in enumerate(rows):
        for column, (name, (result, error)) in enumerate(zip(COLUMNS, results, strict=True)):
            left, top = column * cell[0], row * cell[1]
            caption = f"  {result.example.caption[:50]}" if result.example.caption else ""
            draw.text((left + GAP, top + 2), f"{task_id}, {name}: {error:.3f}\n{caption}", fill="black")
            for number, picture in enumerate(_pictures(result)):
                tile = lay_over(to_pil(picture).resize((SIDE, SIDE)), board)
                sheet.paste(tile, (left + number * (SIDE + GAP), top + WORDS))
    return sheet


def _pictures(result: Result) -> list[np.ndarray]:
    """Inputs, targets, answers."""
    return [*result.example.inputs, *result.example.targets, *result.final]
