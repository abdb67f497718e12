"""Training steps per second with the cache against encoding anew in every step; writes train_cache.json.

    python benchmarks/train_cache.py [--samples 64] [--rounds 6] [--steps 10] [--draws 4] [--file-side 1024]

The embedded model, a LoRA on its transformer, VAE and VLM frozen, batch 8, all 21 tasks, pictures at 64². Both ways
take turns on the same optimiser and the same model, and prepare batches in the background as training does; the first
round warms up. Steps per second of processor time are given as well: other work on the machine slows the clock's
seconds, not these. Without the cache a step reads files, makes the examples, runs the VAE and the VLM: with our
single-frame VAE and whole batches, which is faster than the authors' loop, where both run sample by sample.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import omnialpha
from omnialpha.data.groups import sample_groups
from omnialpha.data.loader import Group, batches, draw_batch
from omnialpha.data.manifest import Sample
from omnialpha.training.cache import Cache, build_cache
from omnialpha.training.dit import Denoiser, Encoder, trained
from omnialpha.training.encoding import encode
from omnialpha.training.prepare import make_trainable
from omnialpha.training.recipes import paper_dit

RESULT = Path(__file__).with_suffix(".json")
CONFIG = dataclasses.replace(
    paper_dit(), lora_rank=8, size=64, mixed_precision="no", checkpointing=False, validate_every=0, tracker="none"
)


def make_samples(folder: Path, count: int, side: int) -> list[Sample]:
    """Pictures with the detail of photographs: background and composite as JPEG, the cut-out as PNG."""
    rng = np.random.default_rng(0)
    samples = []
    y, x = np.mgrid[0:side, 0:side] / side
    for number in range(count):

        def picture() -> np.ndarray:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
            return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255)

        back, front = picture(), picture()
        alpha = np.clip((0.3 - np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7))) * 40, 0, 1)[..., None]
        stem = folder / str(number)
        for name, pixels in (("bg.jpg", back), ("all.jpg", front * alpha + back * (1 - alpha))):
            Image.fromarray(pixels.round().astype(np.uint8)).save(f"{stem}-{name}", quality=92)
        cutout = np.concatenate([front * (alpha > 0), alpha * 255], axis=-1)
        Image.fromarray(cutout.round().astype(np.uint8)).save(f"{stem}-fg.png")
        samples.append(
            Sample(
                id=str(number),
                foregrounds=(Path(f"{stem}-fg.png"),),
                background=Path(f"{stem}-bg.jpg"),
                composite=Path(f"{stem}-all.jpg"),
                captions=(f"object number {number}",),
                background_caption=f"place number {number}",
            )
        )
    return samples


def run(
    denoiser: Denoiser, optimizer: torch.optim.Optimizer, groups: list[Group[Any]], first: int, steps: int
) -> tuple[float, float]:
    """Optimiser steps per second, and per second of processor time, from the first draw to the last update."""
    draw = partial(draw_batch, groups, seed=0, batch_size=CONFIG.batch_size)
    start, processor_start = time.perf_counter(), time.process_time()
    for rows in batches(lambda step: draw(step=step), first, first + steps):
        losses, _ = denoiser(rows, range(len(rows)))
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(trained(denoiser).values(), CONFIG.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return steps / (time.perf_counter() - start), steps / (time.process_time() - processor_start)


def comparison(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, the slowest and fastest round of both ways, and the ratio of the medians."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "median": {name: round(median, 3) for name, median in medians.items()},
        "slowest_and_fastest_round": {name: [round(min(v), 3), round(max(v), 3)] for name, v in rates.items()},
        "times_faster": round(medians["with"] / medians["without"], 2),
    }


def main() -> None:
    """Build the cache, run both ways in turns, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10, help="steps of each way in a round")
    parser.add_argument("--draws", type=int, default=4, help="examples made of each sample and structure")
    parser.add_argument("--file-side", type=int, default=1024, help="pixels of the pictures on disk; the paper's: 1024")
    options = parser.parse_args()

    pipeline = omnialpha.load("nano")
    make_trainable(pipeline, CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder), options.samples, options.file_side)
        groups = sample_groups(samples, area=CONFIG.size**2, grid=pipeline.profile.grid)
        start = time.perf_counter()
        report = build_cache(pipeline, groups, Path(folder) / "cache", draws=options.draws)
        seconds = time.perf_counter() - start
        cache = Cache(Path(folder) / "cache")
        ways: dict[str, tuple[Encoder, list[Group[Any]]]] = {
            "without": (partial(encode, pipeline), list(groups)),
            "with": (cache.collate, list(cache.groups)),
        }
        denoisers = {name: Denoiser(pipeline, encoder, CONFIG).train() for name, (encoder, _) in ways.items()}
        optimizer = torch.optim.AdamW(trained(denoisers["with"]).values(), lr=CONFIG.learning_rate)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, (_, source) in ways.items():
                rate = run(denoisers[name], optimizer, source, number * options.steps, options.steps)
                if number:  # the first round warms up
                    rates[name].append(rate)
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    record = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{processor}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "pictures_on_disk": [options.file_side, options.file_side],
        "model": "nano, LoRA of rank 8, 64 x 64, batch 8, float32",
        **{
            clock: comparison({name: [pair[place] for pair in pairs] for name, pairs in rates.items()})
            for place, clock in enumerate(("steps_per_second", "steps_per_processor_second"))
        },
        "cache": {
            "examples": report.rows,
            "tensors": report.encoded,
            "seconds_to_build": round(seconds, 1),
            "megabytes": round(report.bytes / 1e6, 1),
        },
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
