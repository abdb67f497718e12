"""Whole calls, ours beside the stock pipeline on the same weights and inputs, on the CPU; writes end_to_end.json.

    python benchmarks/end_to_end.py [--figures nano twentieth] [--threads 2] [--rounds 3]

`nano`: the embedded checkpoint. `twentieth`: the 20B model at its full width and a twentieth of its depth (3 blocks of
the transformer, 1 of the language model, 2 of the vision tower), the full VAE, random weights; its VAE takes a larger
share of a call than at full depth and 50 steps, so the loop's own ratio is given, too. The rival and what is stock in
it: `rival.py`.

Each side runs in fresh processes, in turns with the other. A process loads, calls once to warm up (`nano` only: a call
of the other takes a minute), and reports seconds and processor seconds of its further calls, the parts they consist
of, and the peak of its resident memory from the moment the weights were loaded. The pictures of both sides must agree
within 1e-3, or nothing is written. The table in docs/performance.md is written, too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImageEditPlusPipeline
from model_20b import FULL, Scale, components, our_pipeline, picture, stock_pipeline
from page import write_table
from rival import load_rival
from stopwatch import Clock, timed_pieces
from torch import Tensor

import omnialpha
from omnialpha.hub import locate
from omnialpha.imaging.files import atomic_write
from omnialpha.models.profile import Profile
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import task as find_task

RESULT = Path(__file__).with_suffix(".json")
TOLERANCE = 1e-3
CPU = torch.device("cpu")
TOKEN_PIXELS = 16  # side of the square of pixels behind one token of 64 values
SIDES = ("stock", "ours")
STAGES = {
    "vlm": "VLM",
    "encode": "VAE, inputs",
    "denoise": "loop",
    "decode": "VAE, layers",
    "rest": "everything else",
}
wall_clock = Clock(mark=time.perf_counter, between=lambda start, end: end - start)


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Attributes:
        task: what both sides are asked for.
        side: of the picture, pixels.
        steps: sampling steps.
        true_cfg_scale: guidance; the negative prompt is empty.
        rounds: processes of each side.
        calls: timed calls in each process.
        warm_up: calls before them.
        goal: how many times faster ours should be.
    """

    task: str
    side: int
    steps: int
    true_cfg_scale: float
    rounds: int
    calls: int
    warm_up: int
    goal: float


FIGURES = {
    "nano": Figure("decomposition_auto", 256, steps=20, true_cfg_scale=4.0, rounds=3, calls=3, warm_up=1, goal=2.5),
    "twentieth": Figure("matting_auto", 512, steps=2, true_cfg_scale=4.0, rounds=1, calls=1, warm_up=0, goal=1.5),
}
TWENTIETH = Scale(
    transformer={"num_layers": 3},
    vlm={
        # The words of the tokenizer alone: the stock call computes logits for all, which ours leaves out.
        "text_config": FULL.vlm["text_config"] | {"num_hidden_layers": 1, "vocab_size": 4096},
        "vision_config": FULL.vlm["vision_config"] | {"depth": 2, "fullatt_block_indexes": [1]},
    },
    vae=FULL.vae,
    side=FIGURES["twentieth"].side,
    steps=FIGURES["twentieth"].steps,
    few_steps=FIGURES["twentieth"].steps,
)


Call = Callable[[], Tensor]
"""Returns the layers (m, 4, H, W) in [0, 1], back to front."""


def our_side(name: str) -> tuple[OmniAlphaPipeline, Call]:
    """Our pipeline of a figure, loaded, and the call to measure."""
    figure = FIGURES[name]
    if name == "nano":
        pipe = omnialpha.load("nano", device=CPU, dtype="float32")
        pipe.set_progress_bar_config(disable=True)
    else:
        pipe = our_pipeline(components(TWENTIETH, CPU, torch.float32))
    noise_LSC = noise_of(figure)
    if pipe.profile.layer_order == "paper":  # which names the front layer first
        noise_LSC = noise_LSC.flip(0)
    return pipe, lambda: pipe(
        task=figure.task,
        images=[picture(figure.side)],
        height=figure.side,
        width=figure.side,
        num_inference_steps=figure.steps,
        true_cfg_scale=figure.true_cfg_scale,
        latents=noise_LSC.flatten(0, 1).unsqueeze(0),
        output_type="pt",
    ).images[0]


def stock_side(name: str) -> tuple[QwenImageEditPlusPipeline, Call]:
    """The same of the rival."""
    figure = FIGURES[name]
    if name == "nano":
        folder, _ = locate("nano", None)
        profile = json.loads((folder / "model_index.json").read_text())["profile"]
        rival = load_rival(folder, Profile.from_dict(profile))
    else:
        rival = stock_pipeline(components(TWENTIETH, CPU, torch.float32))
    prompt = find_task(figure.task).prompt(None, template=rival.profile.instructions.get(figure.task))
    return rival.pipe, lambda: rival(
        [picture(figure.side)],
        prompt,
        noise_of(figure),
        steps=figure.steps,
        true_cfg_scale=figure.true_cfg_scale,
    )


def noise_of(figure: Figure) -> Tensor:
    """Packed noise of each target, back to front, (m, S, 64)."""
    tokens = (figure.side // TOKEN_PIXELS) ** 2
    num_targets = find_task(figure.task).num_targets()
    return torch.randn(num_targets, tokens, 64, generator=torch.Generator().manual_seed(0))


def measure(name: str, side: str, threads: int, output: Path) -> dict[str, Any]:
    """Load and call one side in this process; the layers go to a file."""
    torch.set_num_threads(threads)
    figure = FIGURES[name]
    pipe, call = our_side(name) if side == "ours" else stock_side(name)
    loaded = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(figure.warm_up):
        call()
    seconds, processor, stages = [], [], []
    for _ in range(figure.calls):
        with timed_pieces(pipe, wall_clock) as spans:
            start, processor_start = time.perf_counter(), time.process_time()
            layers = call()
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - processor_start)
        pieces = spans.seconds() | {"denoise": spans.from_first_to_last("denoise")}
        stages.append(pieces | {"rest": seconds[-1] - sum(pieces.values())})
    np.save(output, layers.numpy())
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "stages": stages,
        "loaded_mib": loaded,
        "peak_mib": resident_mib("VmHWM"),
    }


def resident_mib(line: str) -> float:
    """A line of this process's status in MiB: "VmRSS" is its memory now, "VmHWM" the highest so far."""
    status = dict(entry.split(":", 1) for entry in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) / 1024


def in_a_process(name: str, side: str, threads: int, output: Path) -> dict[str, Any]:
    """`measure` in an interpreter of its own."""
    command = [sys.executable, __file__, "--measure", name, side, str(output), "--threads", str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the calls of all rounds; memory as the largest of the rounds."""

    def median(key: str) -> float:
        return round(statistics.median(value for report in reports for value in report[key]), 3)

    stages = [stage for report in reports for stage in report["stages"]]
    return {
        "seconds": median("seconds"),
        "processor_seconds": median("processor_seconds"),
        "stages": {name: round(statistics.median(stage[name] for stage in stages), 3) for name in stages[0]},
        "loaded_mib": round(max(report["loaded_mib"] for report in reports)),
        "peak_mib": round(max(report["peak_mib"] for report in reports)),
    }


def compare(name: str, figure: Figure, threads: int) -> dict[str, Any]:
    """Both sides of a figure in turns.

    Raises:
        AssertionError: their pictures differ.
    """
    reports: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        files = {side: Path(folder) / f"{side}.npy" for side in SIDES}
        for _ in range(figure.rounds):
            for side in SIDES:
                reports[side].append(in_a_process(name, side, threads, files[side]))
                print(name, side, reports[side][-1]["seconds"], flush=True)
        difference = float(np.abs(np.load(files["ours"]) - np.load(files["stock"])).max())
    assert difference <= TOLERANCE, f"{name}: the pictures differ by {difference}"
    stock, ours = (summary(reports[side]) for side in SIDES)
    return asdict(figure) | {
        "stock": stock,
        "ours": ours,
        "times_faster": round(stock["seconds"] / ours["seconds"], 2),
        "times_less_processor_time": round(stock["processor_seconds"] / ours["processor_seconds"], 2),
        "times_faster_by_stage": {
            stage: round(stock["stages"][stage] / max(ours["stages"][stage], 1e-3), 2) for stage in stock["stages"]
        },
        "peak_memory_to_stock": round(ours["peak_mib"] / stock["peak_mib"], 3),
        "peak_above_loaded_to_stock": round(
            (ours["peak_mib"] - ours["loaded_mib"]) / (stock["peak_mib"] - stock["loaded_mib"]), 3
        ),
        "max_difference": difference,
    }


def table(figures: dict[str, Any]) -> list[list[str]]:
    """The figures for docs/performance.md."""
    rows = [["", "stock", "ours", "times faster", "goal"]]
    for name, figure in figures.items():
        stock, ours = figure["stock"], figure["ours"]
        goal = f"{figure['goal']}: {'reached' if figure['times_faster'] >= figure['goal'] else 'missed'}"
        what = f"`{name}`: {figure['task']}, {figure['side']}², {figure['steps']} steps"
        rows.append([what, f"{stock['seconds']} s", f"{ours['seconds']} s", f"**{figure['times_faster']}**", goal])
        for stage, times in figure["times_faster_by_stage"].items():
            seconds = [f"{side['stages'][stage]} s" for side in (stock, ours)]
            rows.append([f"– {STAGES[stage]}", *seconds, "–" if stage == "rest" else str(times), ""])
        memory = [f"{side['peak_mib']} MiB" for side in (stock, ours)]
        reached = "at most 1 × as much: " + ("reached" if figure["peak_memory_to_stock"] <= 1 else "missed")
        rows.append(["– peak memory of the process", *memory, f"{figure['peak_memory_to_stock']} × as much", reached])
        rows.append(["– largest difference of the layers", "", f"{figure['max_difference']:.1e}", "", "1e-3: reached"])
    return rows


def main() -> None:
    """Compare the chosen figures and write the result file; those of an earlier run stay beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, help="processes of each side; by default 3 for nano, 1 for twentieth")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, side, output = options.measure
        print(json.dumps(measure(name, side, options.threads, Path(output))))
        return
    figures = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    how = {
        "command": " ".join(["python", "benchmarks/end_to_end.py", *sys.argv[1:]]),
        "hardware": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads",
        "versions": {package: version(package) for package in ("torch", "diffusers", "transformers")},
        "unit": "float32; seconds are medians; memory is resident, MiB",
    }
    for name in options.figures:
        figure = replace(FIGURES[name], rounds=options.rounds or FIGURES[name].rounds)
        figures[name] = how | compare(name, figure, options.threads)
    with atomic_write(RESULT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n")
    write_table(RESULT.stem, table(figures))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
