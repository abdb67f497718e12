"""The main job on the pictures in examples/images: layers, a cut-out, a removal, a picture from words.

`make demo` runs this. Results are written to demo/, together with one picture that shows inputs and results.
"""

import argparse
import time
from pathlib import Path

import transformers
from PIL import Image, ImageDraw, ImageFont

import omnialpha
from omnialpha.imaging.backdrop import checkerboard, lay_over
from omnialpha.imaging.refine import refine
from omnialpha.imaging.rgba import read, save_png

IMAGES = Path(__file__).parent / "images"
TEXT = "a red apple"

# title, task, input pictures, text, where its result goes
JOBS: tuple[tuple[str, str, list[str], str | None, list[str]], ...] = (
    ("decomposition", "decomposition_auto", ["barrel.png"], None, ["layers.psd", "layers.ora"]),
    ("matting, guided by a trimap", "matting_trimap", ["lemur.jpg", "lemur_trimap.png"], None, ["cutout.png"]),
    ("matting", "matting_auto", ["orca.jpg"], None, ["orca.png"]),
    ("removal, guided by a mask", "removal_precise_mask", ["mailbox.png", "mailbox_mask.png"], None, ["removal.png"]),
    (f'text to image: "{TEXT}"', "text_to_image", [], TEXT, ["apple.png"]),
)

TILE = 200  # pixels


def main() -> None:
    """Run the jobs and print where each result is and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano", help='"nano", "omnialpha", a folder or a hub id')
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    options = parser.parse_args()

    start = time.perf_counter()
    transformers.utils.logging.disable_progress_bar()  # it would count tensors between our lines
    pipe = omnialpha.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    print(f"{'model ' + options.model + ' loaded':<40} {time.perf_counter() - start:5.1f} s")

    rows = []
    for title, task, names, text, files in JOBS:
        start = time.perf_counter()
        images = [read(IMAGES / name) for name in names]
        raw = pipe(task=task, images=images, text=text, seed=0).stacks[0]
        stack = refine(task, images, raw)  # as sharp as the input, which is larger than the model works at
        for file in files:
            save(stack, options.out / file)
        where = " and ".join(str(options.out / file) for file in files)
        print(f"{where:<40} {time.perf_counter() - start:5.1f} s  {title}")
        inputs = dict(zip(omnialpha.tasks.task(task).inputs, images, strict=True))
        rows.append((title, inputs, {layer.name: layer.image for layer in stack}))

    save_png(overview(rows), options.out / "overview.png", overwrite=True)
    print(f"{options.out / 'overview.png'!s:<40}          all of them: look here first")


def save(stack: omnialpha.LayerStack, path: Path) -> None:
    """Write one layer as PNG with its provenance, several as a layered file."""
    if path.suffix == ".png":
        save_png(stack[0].image, path, stack.metadata, overwrite=True)
    else:
        stack.save(path, overwrite=True)


def overview(rows: list[tuple[str, dict[str, Image.Image], dict[str, Image.Image]]]) -> Image.Image:
    """Draw one row per job: title, named inputs, an arrow, named results."""
    title_font, font, head = ImageFont.load_default(16), ImageFont.load_default(12), 44
    columns = max(len(inputs) for _, inputs, _ in rows), max(len(results) for _, _, results in rows)
    sheet = Image.new("RGB", ((sum(columns) + 1) * TILE, len(rows) * (TILE + head)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, inputs, results) in enumerate(rows):
        top = number * (TILE + head)
        draw.text((4, top + 4), title, "black", title_font)
        for pictures, first in ((inputs, 0), (results, columns[0] + 1)):
            for column, (name, image) in enumerate(pictures.items(), start=first):
                draw.text((column * TILE + 4, top + 26), name.replace("_", " "), "gray", font)
                sheet.paste(tile(image), (column * TILE, top + head))
        x, y = columns[0] * TILE + TILE // 2, top + head + TILE // 2
        draw.line((x - 40, y, x + 40, y), "black", 3)
        draw.polygon([(x + 40, y - 8), (x + 40, y + 8), (x + 54, y)], "black")
    return sheet


def tile(image: Image.Image) -> Image.Image:
    """Fit a picture into a tile, over a checkerboard that shows its transparency."""
    scale = (TILE - 8) / max(image.size)
    fitted = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    shown = lay_over(fitted, checkerboard(fitted.size, cell=12))
    result = Image.new("RGB", (TILE, TILE), "white")
    result.paste(shown, ((TILE - shown.width) // 2, (TILE - shown.height) // 2))
    return result


if __name__ == "__main__":
    main()
