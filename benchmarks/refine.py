"""Score refined results at 2048² beside plain bicubic upsampling of the same results; writes refine.json and a picture.

    python benchmarks/refine.py --corpora DIR [--model nano] [--count 12] [--picture docs/images/refine.png]

The composites are drawn with a fixed seed from the test split of the corpora, which the embedded checkpoint has
not seen. The constants of the refinement were chosen on the training split, but for the rule of trust, which was also
looked at on the hair of the first two composites here.

Rows named by a task refine what the checkpoint returns, of 64² pixels. Rows
"true at N" refine the true alpha shrunk to N², which a perfect model would return: what is lost there is lost by the
refinement. "hair" is drawn: a thousand strands thinner than a pixel of the working size, over the same photographs.
Beside them: the fast guided filter alone (He and Sun, 2015), and for trimaps PyMatting's closed-form matting, which at
2048² takes minutes and so runs at 512², its alpha upsampled, on the first few pictures.

Time and memory are of 4000 × 3000 pixels in a process of its own (`resource.getrusage`, peak of the resident set): the
interpreter, the input, what the model would have returned, and `refine`; the model itself is not in it.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from PIL import Image, ImageDraw

from omnialpha.data.examples import make_example
from omnialpha.data.scenes import Corpus, composite_over, draw_scene
from omnialpha.evaluation.matting import grad, mse, sad
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.refine import foreground_colours, refine
from omnialpha.imaging.refine.local_linear import LocalLinear, applied
from omnialpha.imaging.refine.planes import resized_plane
from omnialpha.imaging.rgba import to_array, to_pil
from omnialpha.tasks import TASKS

RESULT = Path(__file__).with_suffix(".json")
SEED = 30_000
TASK_IDS = ("matting_auto", "matting_rough_mask", "matting_trimap", "matting_precise_mask", "matting_alpha")
LARGE = (4000, 3000)
RIVAL_SIDE = 512
SHOWN = {"matting_trimap": 1, "matting_precise_mask": 2, "hair, true at 512": 2}  # row to composite, in the picture
CROP = 300

Case = tuple[str, list[Image.Image], Image.Image, np.ndarray]
"""Task, its input pictures, the raw foreground at the working size, the true layer ``(H, W, 4)``."""


def shrunk(layer: np.ndarray, side: int) -> Image.Image:
    """A true layer as a perfect model of that working size would return it."""
    return to_pil(layer).convert("RGBa").resize((side, side), Image.Resampling.BOX).convert("RGBA")


def hair(size: int, rng: np.random.Generator) -> np.ndarray:
    """A brown ball of strands ``(size, size, 4)``, 1 to 3 pixels wide, drawn four times larger and shrunk."""
    big = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(big)
    radius = 0.26 * 2 * size
    draw.ellipse([size - radius, size - radius, size + radius, size + radius], fill=255)
    for angle in rng.uniform(0, 2 * np.pi, 1000):
        steps = np.linspace(0.9, rng.uniform(1.1, 1.6), 12)
        turns = angle + rng.normal(0, 0.15) * (steps - 0.9) * 3
        points = [
            (size + radius * s * np.cos(t), size + radius * s * np.sin(t)) for s, t in zip(steps, turns, strict=True)
        ]
        draw.line(points, fill=255, width=int(rng.integers(2, 6)))
    alpha = np.asarray(big.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    shade = rng.uniform(0.6, 1.0, (size // 4, size // 4)).astype(np.float32)
    shade = resized_plane(shade, (size, size), Image.Resampling.BICUBIC)
    return np.dstack([shade * channel for channel in (0.45, 0.3, 0.18)] + [alpha]).clip(0, 1).astype(np.float32)


def cases(corpus: Corpus, pipe: Callable, size: int, number: int) -> Iterator[tuple[str, Case]]:
    """The cases of one composite, each with the name of its row."""
    scene = draw_scene(corpus, np.random.default_rng([SEED, number]), size)
    layer = scene.foregrounds[0]
    for task_id in TASK_IDS:
        example = make_example(scene, TASKS[task_id], np.random.default_rng([SEED, number, 1]), paraphrase=False)
        images = [to_pil(picture) for picture in example.inputs]
        small = [image.resize((64, 64), Image.Resampling.LANCZOS) for image in images]
        raw = pipe(task=task_id, images=small, seed=0).stacks[0][0].image
        yield task_id, (task_id, images, raw, layer)
    composite = to_pil(scene.composite)
    for side in (64, 512):
        yield f"true at {side}", ("matting_auto", [composite], shrunk(layer, side), layer)
    assert scene.background is not None  # drawn scenes have one
    strands = hair(size, np.random.default_rng([SEED, number, 2]))
    composite = to_pil(composite_over(strands, scene.background))
    yield "hair, true at 512", ("matting_auto", [composite], shrunk(strands, 512), strands)


def bicubic(raw: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return resized_plane(to_array(raw)[..., 3], size, Image.Resampling.BICUBIC).clip(0, 1)


def guided_filter(image: Image.Image, raw: Image.Image) -> np.ndarray:
    """Fast guided filter alone: fitted at the working size, applied at the full one."""
    pixels = to_array(image)[..., :3]
    small = to_array(image.resize(raw.size, Image.Resampling.BOX))[..., :3]
    planes = LocalLinear(small, 1, 1e-4).fit(to_array(raw)[..., 3])
    full = [resized_plane(plane, image.size, Image.Resampling.BILINEAR) for plane in planes]
    return applied(full, list(np.moveaxis(pixels, -1, 0))).clip(0, 1)


def closed_form(image: Image.Image, trimap: Image.Image) -> np.ndarray:
    """PyMatting's closed-form matting at RIVAL_SIDE, upsampled."""
    from pymatting.alpha.estimate_alpha_cf import estimate_alpha_cf

    side = (RIVAL_SIDE, RIVAL_SIDE)
    small = to_array(image.resize(side, Image.Resampling.BOX))[..., :3].astype(np.float64)
    known = to_array(trimap.resize(side, Image.Resampling.BOX))[..., 0].astype(np.float64)
    known = np.where(known > 0.99, 1.0, np.where(known < 0.01, 0.0, 0.5))
    alpha = estimate_alpha_cf(small, known).astype(np.float32)
    return resized_plane(alpha, image.size, Image.Resampling.BICUBIC).clip(0, 1)


def scores(alpha: np.ndarray, layer: np.ndarray) -> dict[str, float]:
    true = layer[..., 3]
    alpha = alpha.astype(np.float32)
    return {"sad": sad(alpha, true), "mse": mse(alpha, true), "grad": grad(alpha, true)}


def colour_error(colours: np.ndarray, layer: np.ndarray) -> float:
    """Mean difference of colours where alpha is between, weighted by alpha, in levels of 255."""
    alpha = layer[..., 3]
    weight = alpha * ((alpha > 0.02) & (alpha < 0.98))
    return float((np.abs(colours - layer[..., :3]).mean(axis=-1) * weight).sum() / weight.sum() * 255)


def summary(rows: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over pictures, and each metric as a share of bicubic's on the same pictures."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for row, methods in rows.items():
        result[row] = {}
        for method, values in methods.items():
            means = {key: float(np.mean([v[key] for v in values])) for key in values[0]}
            base = methods["bicubic"][: len(values)]
            shares = {
                f"{key}_of_bicubic": round(means[key] / float(np.mean([v[key] for v in base])), 3)
                for key in ("sad", "mse", "grad")
            }
            result[row][method] = {key: round(value, 5) for key, value in means.items()} | shares
            result[row][method]["pictures"] = len(values)
    return result


def large(task_id: str, corpora: Path) -> None:
    """Refine one picture of LARGE pixels and print seconds and the peak of memory: run in a process of its own."""
    scene = draw_scene(Corpus(corpora, "test"), np.random.default_rng([SEED, 0]), 512)
    example = make_example(scene, TASKS[task_id], np.random.default_rng(0), paraphrase=False)
    images = [to_pil(picture).resize(LARGE, Image.Resampling.BICUBIC) for picture in example.inputs]
    names = TASKS[task_id].layer_names(len(example.targets))
    raw = [to_pil(x).resize((1024, 768), Image.Resampling.BICUBIC).resize(LARGE) for x in example.targets]
    layers = [Layer(image, name) for image, name in zip(raw, names, strict=True)][::-1]
    stack = LayerStack(layers, LARGE, {"work_size": [1024, 768]})
    start, processor = time.perf_counter(), time.process_time()
    refine(task_id, images, stack)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps({"seconds": round(seconds, 1), "processor_seconds": round(processor, 1), "peak_gib": round(peak, 2)})
    )


def score_case(case: Case, methods: dict[str, list[dict[str, float]]], *, with_closed_form: bool) -> Image.Image:
    """Add every method's scores to ``methods``; returns the refined layer."""
    task_id, images, raw, layer = case
    start = time.process_time()
    refined = refine(task_id, images, LayerStack([Layer(raw, "foreground")]))[0].image
    seconds = time.process_time() - start
    found = scores(to_array(refined)[..., 3], layer) | {"processor_seconds": seconds}
    methods.setdefault("bicubic", []).append(scores(bicubic(raw, images[0].size), layer))
    methods.setdefault("guided_filter", []).append(scores(guided_filter(images[0], raw), layer))
    methods.setdefault("refined", []).append(found)
    if with_closed_form:
        methods.setdefault("closed_form_at_512", []).append(scores(closed_form(*images), layer))
    return refined


def crops(case: Case, refined: Image.Image) -> list[Image.Image]:
    """The input at an edge, then bicubic, refined and true layer over white, black and magenta."""
    _, images, raw, layer = case
    edge = np.argwhere(np.abs(layer[..., 3] - 0.5) < 0.2)
    y, x = edge[np.argmin(edge.sum(axis=1))]
    left, top = (int(np.clip(c - CROP // 2, 0, layer.shape[0] - CROP)) for c in (x, y))
    plain = raw.convert("RGBa").resize(images[0].size, Image.Resampling.BICUBIC).convert("RGBA")

    def over(image: Image.Image, colour: str) -> Image.Image:
        part = image.convert("RGBA").crop((left, top, left + CROP, top + CROP))
        return Image.alpha_composite(Image.new("RGBA", part.size, colour), part)

    layers = (plain, refined, to_pil(layer))
    return [over(images[0], "white")] + [over(image, c) for c in ("white", "black", "magenta") for image in layers]


def save_sheet(rows: list[list[Image.Image]], path: Path) -> None:
    sheet = Image.new("RGB", (CROP * len(rows[0]), CROP * len(rows)))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (CROP * x, CROP * y))
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.BOX).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="number of composites")
    parser.add_argument("--model", default="nano", help="checkpoint whose answers are refined")
    parser.add_argument("--result", type=Path, default=RESULT, help="result file")
    parser.add_argument("--size", type=int, default=2048, help="side of the composites, pixels")
    parser.add_argument("--rivals", type=int, default=3, help="pictures for PyMatting's closed-form matting")
    parser.add_argument("--picture", type=Path, help="write a sheet of crops here")
    parser.add_argument("--large", metavar="TASK", help="only: refine one picture of 12 megapixels")
    options = parser.parse_args()
    if options.large:
        large(options.large, options.corpora)
        return

    import omnialpha  # torch, which the measurement of memory must not load

    result: dict[str, Any] = {
        "command": " ".join(["python", *["DIR" if a.startswith("/") else a for a in sys.argv]]),
        "hardware": f"{platform.machine()}, two cores, shared with other work; one thread; seconds as named",
        "size": options.size,
        "seed": SEED,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "grad_convention": "dim",
        "twelve_megapixels": [],
    }
    for task_id in ("matting_auto", "matting_trimap", "removal_precise_mask", "decomposition_precise_mask"):
        command = [sys.executable, __file__, "--corpora", str(options.corpora), "--large", task_id]
        measured = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result["twelve_megapixels"].append({"task": task_id} | json.loads(measured))
        print(measured, flush=True)

    pipe = omnialpha.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    corpus = Corpus(options.corpora, "test")
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    colours: dict[str, list[float]] = {"input": [], "estimated": []}
    sheet: list[list[Image.Image]] = []
    for number in range(options.count):
        for name, case in cases(corpus, pipe, options.size, number):
            methods = rows.setdefault(name, {})
            rival = number < options.rivals and name == "matting_trimap"
            refined = score_case(case, methods, with_closed_form=rival)
            if number == SHOWN.get(name):
                sheet.append(crops(case, refined))
            if name.startswith("hair"):
                image, layer = to_array(case[1][0])[..., :3], case[3]
                colours["input"].append(colour_error(image, layer))
                colours["estimated"].append(colour_error(foreground_colours(image, layer[..., 3]), layer))
        result["rows"] = summary(rows)
        result["colour_error_of_255"] = {key: round(float(np.mean(values)), 2) for key, values in colours.items()}
        options.result.write_text(json.dumps(result, indent=1) + "\n")  # after every composite
        if options.picture and len(sheet) == len(SHOWN):
            save_sheet(sheet, options.picture)
            sheet = []
        print(
            number,
            {name: methods["refined"].get("sad_of_bicubic") for name, methods in result["rows"].items()},
            flush=True,
        )


if __name__ == "__main__":
    main()
