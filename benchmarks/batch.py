"""A hundred pictures as one batch against one process for each, as a shell loop would do; writes batch.json.

    python benchmarks/batch.py [--pictures 100] [--processes 6]

Three ways to matte the same 256² pictures with the embedded checkpoint, all of them the `omnialpha` command in fresh
processes, from its start to the last file:

- batch: one process, small pictures share calls of the model, as `omnialpha matte FOLDER` does;
- in turn: one process with `--batch 1`, every picture in a call of its own;
- processes: one `omnialpha run matting_auto` for each picture. A few of them are run; each does the same, so the time
  of all is their mean times the number of pictures.

What they write must look the same: colours times alpha, and alpha, differ by at most one 8-bit level. The table in
docs/performance.md is written, too.
"""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from page import write_table
from PIL import Image, ImageDraw
from start import seconds

RESULT = Path(__file__).with_suffix(".json")
SIDE = 256
Seconds = dict[str, float]


def draw(number: int) -> Image.Image:
    """A picture of a bright disc before a smooth ground; every number another one."""
    random = np.random.default_rng(number)
    ground = Image.fromarray(random.integers(0, 160, (4, 4, 3), dtype=np.uint8))
    picture = ground.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    x, y = random.integers(80, 176, 2)
    radius = int(random.integers(30, 70))
    fill = tuple(int(value) for value in random.integers(140, 256, 3))
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return picture


def omnialpha(*arguments: str) -> Seconds:
    """Wall-clock and processor seconds of one `omnialpha` process."""
    return seconds("-m", "omnialpha", *arguments)


def seen(path: Path) -> np.ndarray:
    """Colours times alpha, and alpha, in 8-bit levels."""
    with Image.open(path) as image:
        pixels = np.array(image, dtype=np.float64)
    return np.concatenate([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3:]], axis=-1)


def largest_difference(first: Path, second: Path) -> float:
    """Between all pictures of the second folder and those of the same name in the first, in 8-bit levels."""
    return max(float(np.abs(seen(first / path.name) - seen(path)).max()) for path in second.iterdir())


def measure(folder: Path, pictures: int, processes: int) -> tuple[dict[str, Seconds], float]:
    """Seconds of each way, and how far their results are apart at most."""
    photos = folder / "photos"
    photos.mkdir()
    for number in range(pictures):
        draw(number).save(photos / f"{number:03}.png")
    taken = {
        "batch": omnialpha("matte", str(photos), "-o", f"{folder}/batch/"),
        "in_turn": omnialpha("matte", str(photos), "-o", f"{folder}/in_turn/", "--batch", "1"),
    }
    singles = [
        omnialpha("run", "matting_auto", "--image", str(photo), "-o", f"{folder}/processes/")
        for photo in sorted(photos.iterdir())[:processes]
    ]
    taken["processes"] = {key: sum(one[key] for one in singles) / processes * pictures for key in singles[0]}
    apart = max(largest_difference(folder / "batch", folder / other) for other in ("in_turn", "processes"))
    return taken, apart


def table(taken: dict[str, Seconds], pictures: int) -> list[list[str]]:
    """The three ways for docs/performance.md."""
    titles = {
        "batch": "one process, calls shared",
        "in_turn": "one process, `--batch 1`",
        "processes": "a process each",
    }
    rows = [["", "seconds a picture", "processor seconds a picture", "times faster than a process each"]]
    for way, title in titles.items():
        wall, processor = (taken[way][key] / pictures for key in ("wall", "processor"))
        rows.append(
            [title, f"{wall:.2f}", f"{processor:.2f}", f"{taken['processes']['wall'] / taken[way]['wall']:.1f}"]
        )
    return rows


def main() -> None:
    """Run the three ways and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--processes", type=int, default=6)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        taken, apart = measure(Path(folder), arguments.pictures, arguments.processes)
    if apart > 1:
        sys.exit(f"the results are {apart:.2f} levels apart; nothing is written")
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "task": "matting_auto",
        "pictures": arguments.pictures,
        "side": SIDE,
        "processes_run": arguments.processes,  # the time of all is scaled from these
        "unit": "seconds",
        "seconds": {way: {key: round(value, 2) for key, value in its.items()} for way, its in taken.items()},
        "times_faster_than_processes": {
            way: {key: round(taken["processes"][key] / taken[way][key], 2) for key in taken[way]}
            for way in ("batch", "in_turn")
        },
        "largest_difference_levels": round(apart, 3),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_table(RESULT.stem, table(taken, arguments.pictures))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
