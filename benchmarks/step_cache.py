"""Step caches beside the same call without one: work saved, time, and how far results move; writes step_cache.json.

    python benchmarks/step_cache.py [--steps 20 50] [--size 256] [--pictures 2] [--model nano]

`nano` with guidance 4 on pictures of the package, at 256². Every cache at several thresholds runs in turns with the
uncached call. Work is the share of the transformer's blocks that are computed, which does not depend on the machine;
time is processor time of whole calls (VLM, VAE and all) on one core. The error is the distance to the uncached result
of the same noise: PSNR over AlphaVAE's nine backgrounds, and the mean absolute difference of the foreground's alpha.

The table between the markers in docs/performance.md is written from the result.
"""

import argparse
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import omnialpha
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.evaluation.generation import BACKGROUNDS
from omnialpha.imaging.files import atomic_write
from omnialpha.pipeline import OmniAlphaPipeline

RESULT = Path(__file__).with_suffix(".json")
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- step caching: written by benchmarks/step_cache.py -->", "<!-- end of step caching -->"
TASKS = ("decomposition_auto", "matting_auto")
OPTIONS = (
    *("first_block=0.08", "first_block=0.12"),
    *("magcache=0.06", "magcache=0.12"),
    *("taylorseer=2", "taylorseer=3", "taylorseer=5"),
)
GUIDANCE = 4.0


@contextmanager
def computed_blocks(pipe: OmniAlphaPipeline) -> Iterator[list[int]]:
    """Count the blocks that compute something, times their batch: hooks stand between them and their caller."""
    block_class = type(pipe.transformer.transformer_blocks[0])
    stock, total = block_class.forward, [0]

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        total[0] += len(kwargs["encoder_hidden_states"])
        return stock(self, *args, **kwargs)

    block_class.forward = counted
    try:
        yield total
    finally:
        block_class.forward = stock


def run(
    pipe: OmniAlphaPipeline, picture: Image.Image, task: str, steps: int, size: int, option: str | None
) -> tuple[np.ndarray, float, int]:
    """Layers (m, H, W, 4) from back to front, processor seconds, and the number of blocks computed."""
    with computed_blocks(pipe) as blocks:
        start = time.process_time()
        result = pipe(
            task=task,
            images=[picture],
            seed=0,
            num_inference_steps=steps,
            true_cfg_scale=GUIDANCE,
            height=size,
            width=size,
            step_cache=option,
            output_type="np",
        )
        return result.images[0], time.process_time() - start, blocks[0]


def distance(result: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Mean squared difference over the nine backgrounds, and mean absolute difference of the front layer's alpha."""

    def over(layers: np.ndarray, background: np.ndarray) -> np.ndarray:
        return layers[..., 3:] * layers[..., :3] + (1 - layers[..., 3:]) * background

    backgrounds = [np.array(colour) / 255 for colour in BACKGROUNDS.values()]
    squares = [np.square(over(result, colour) - over(exact, colour)).mean() for colour in backgrounds]
    return float(np.mean(squares)), float(np.abs(result[-1, ..., 3] - exact[-1, ..., 3]).mean())


def compare(pipe: OmniAlphaPipeline, pictures: Sequence[Image.Image], task: str, steps: int, size: int) -> list[Any]:
    """One row for each option, all in turns with the uncached call, picture by picture."""
    samples: dict[str, list[tuple[float, float, float, float]]] = {option: [] for option in OPTIONS}
    seconds = []
    for picture in pictures:
        exact, exact_seconds, exact_blocks = run(pipe, picture, task, steps, size, None)
        seconds.append(exact_seconds)
        for option in OPTIONS:
            result, spent, blocks = run(pipe, picture, task, steps, size, option)
            samples[option].append((blocks / exact_blocks, exact_seconds / spent, *distance(result, exact)))
    rows = []
    for option, values in samples.items():
        work, faster, squares, alpha = (statistics.mean(column) for column in zip(*values, strict=True))
        rows.append(
            {
                "task": task,
                "steps": steps,
                "step_cache": option,
                "blocks_computed": round(work, 3),
                "times_faster": round(faster, 2),
                "psnr_db": None if squares == 0 else round(-10 * float(np.log10(squares)), 1),
                "alpha_mad": round(alpha, 5),
                "uncached_seconds": round(statistics.mean(seconds), 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| Task, steps | `step_cache` | blocks computed | times faster | PSNR | alpha MAD |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        psnr = "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f} dB"
        lines.append(
            f"| {row['task']}, {row['steps']} | `{row['step_cache']}` | {row['blocks_computed']:.0%} "
            f"| {row['times_faster']:.2f} | {psnr} | {row['alpha_mad']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    torch.set_num_threads(1)

    pipe = omnialpha.load(options.model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    chosen = [Image.open(example.files[0]).convert("RGB") for example in EXAMPLES[: options.pictures]]
    pictures = [picture.resize((options.size, options.size), Image.Resampling.LANCZOS) for picture in chosen]
    run(pipe, pictures[0], TASKS[0], 2, options.size, None)  # warms up
    rows = [
        row for task in TASKS for steps in options.steps for row in compare(pipe, pictures, task, steps, options.size)
    ]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, one core, processor time",
        "versions": {name: version(name) for name in ("torch", "diffusers")},
        "size": options.size,
        "guidance": GUIDANCE,
        "pictures": len(pictures),
        "mag_ratios_of_steps": len(pipe.profile.mag_ratios),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    new = re.sub(f"(?s){BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table(rows)}\n{END}", text)
    with atomic_write(DOCUMENT, overwrite=True) as temporary:
        temporary.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
