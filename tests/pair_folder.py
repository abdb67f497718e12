"""A small folder of pairs for the judge and the human study."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from omnialpha.evaluation.pairs import Pair, write_pairs

TASKS = ("foreground_to_composite", "background_to_composite")
OURS, THEIRS = (0, 128, 0), (128, 0, 0)  # their colours give the methods away to a test
NAMES = ("ours", "LayerDiffuse")


def make(folder: Path, count: int = 4, size: tuple[int, int] = (8, 6), tasks: Sequence[str] = TASKS) -> list[Pair]:
    """Write pairs whose first candidate is green and whose second is red; no two pictures are equal."""
    pairs = []
    for number in range(count):
        files = {}
        for name, colour in (("given", (0, 0, 200, 100)), (NAMES[0], (*OURS, 255)), (NAMES[1], (*THEIRS, 255))):
            file = folder / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGBA", size, colour)
            picture.putpixel((0, 0), (number, 1, 2, 255))
            picture.save(file)
            files[name] = file
        condition = files.pop("given")
        text = f"scene {number}"
        task = tasks[number % len(tasks)]
        pairs.append(Pair(id=f"case {number}", task=task, text=text, candidates=files, condition=condition))
    write_pairs(pairs, folder)
    return pairs
