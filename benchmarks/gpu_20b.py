"""Time the full 20B architecture on one CUDA GPU, stock and ours, in one command of ten minutes; writes gpu_20b.json.

    python benchmarks/gpu_20b.py [--minutes 9] [--missing] [--parts WORD …]
    python benchmarks/gpu_20b.py --scale tiny --result trial.json

Weights are random bfloat16 (time and memory do not depend on them), made on the GPU: transformer, VLM and RGBA VAE of
Qwen-Image-Edit-2509's sizes. Parts run in order of importance and the file is rewritten after each, so a run that is
cut off loses one part; `--missing` runs only those that the file does not have yet. Model FLOP utilisation (MFU) is the
transformer's operations, counted from the architecture, over the loop's time and the fastest bfloat16 matrix product
that was measured in the same run. Where fewer steps were measured, `seconds` is extrapolated and says so. With step
caching the operations are those of the full loop, so its MFU is what the loop is worth, not what it computes.

Differences of pictures on random weights tell that a path works, not how its error would look with trained ones.

Without a GPU the shapes and operations of every stage are checked on meta tensors and written to gpu_20b_shapes.json;
`--scale tiny` runs every line of the measurement on the CPU with a small model.
"""

import argparse
import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from bench_20b import GUIDANCE, Bench, Variant
from model_20b import SCALES, Scale
from parts import Part, Results, run_parts
from shapes_20b import check_shapes

from omnialpha.imaging.files import atomic_write
from omnialpha.models.compiling import compile_blocks
from omnialpha.pipeline import OmniAlphaPipeline

RESULT = Path(__file__).with_suffix(".json")
SHAPES = RESULT.with_stem("gpu_20b_shapes")
LAYOUTS = {"1→1": (1, 1), "1→4": (1, 4)}
GOALS = {"mfu": 0.6, "times_faster_than_stock": 1.4, "times_faster_than_stock_with_step_caching": 2.5}
STEP_CACHES = ("taylorseer", "taylorseer=5", "first_block")
PLANS_GB = (80, 48, 24)


def as_loaded(pipe: OmniAlphaPipeline) -> dict[str, Any]:
    """Ours without options."""
    return {}


def compiled(pipe: OmniAlphaPipeline) -> dict[str, Any]:
    """Ours with its blocks compiled; without a GPU by a compiler that does nothing, which is enough for a trial."""
    on_cpu = pipe.transformer.device.type == "cpu"
    compile_blocks(pipe.transformer, backend="eager" if on_cpu else "inductor")
    return {}


def caching(option: str) -> Variant:
    """Ours with step caching."""
    return lambda pipe: {"step_cache": option}


VARIANTS: dict[str, Variant] = {
    "ours": as_loaded,
    "ours compiled": compiled,
    **{f"ours {option}": caching(option) for option in STEP_CACHES},
}


def make_parts(bench: Bench) -> list[Part]:
    """Everything to measure with the seconds it takes on an H200, the most important first."""
    steps, few = bench.scale.steps, bench.scale.few_steps

    def stock(seconds: float, layout: str, steps: int, suffix: str = "") -> Part:
        m = LAYOUTS[layout][1]
        return Part(f"stock {layout}{suffix}", seconds, lambda: bench.measure_stock(m, steps))

    def ours(name: str, seconds: float, layout: str, steps: int, suffix: str = "") -> Part:
        m = LAYOUTS[layout][1]
        return Part(f"{name} {layout}{suffix}", seconds, lambda: bench.measure_ours(name, VARIANTS[name], m, steps))

    def plan(limit: int) -> Part:
        return Part(f"plan {limit} GB", 60, lambda: bench.measure_plan(limit))

    first_cache, *other_caches = (f"ours {option}" for option in STEP_CACHES)
    return [
        Part("weights", 30, bench.make_weights),
        Part("ceiling", 10, bench.measure_ceiling),
        stock(80, "1→1", steps),
        ours("ours", 60, "1→1", steps),
        ours(first_cache, 35, "1→1", steps),
        stock(50, "1→4", few),
        ours("ours", 40, "1→4", few),
        ours("ours compiled", 120, "1→1", steps),
        *(ours(name, 35, "1→1", steps) for name in other_caches),
        ours("ours compiled", 80, "1→4", few),
        ours(first_cache, 90, "1→4", steps),
        stock(200, "1→4", steps, ", all steps"),
        ours("ours", 150, "1→4", steps, ", all steps"),
        *(plan(limit) for limit in PLANS_GB),
    ]


def summary(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was reached beside the goals, as far as it was measured."""
    found: dict[str, Any] = {"goals": GOALS}
    for layout in LAYOUTS:
        figures = {name: parts.get(f"{name} {layout}", {}) for name in ("stock", *VARIANTS)}
        seconds = {name: values["seconds"] for name, values in figures.items() if "seconds" in values}
        if "stock" in seconds:
            faster = {name: round(seconds["stock"] / value, 2) for name, value in seconds.items() if name != "stock"}
            mfu = {name: figures[name].get("mfu") for name in ("stock", "ours", "ours compiled")}
            found[layout] = {"times_faster_than_stock": faster, "mfu": mfu}
    return found


def settings_of(name: str, scale: Scale, device: torch.device) -> dict[str, Any]:
    """What all parts of a result share."""
    on_gpu = device.type == "cuda"
    return {
        "scale": name,
        "side": scale.side,
        "steps": scale.steps,
        "true_cfg_scale": GUIDANCE,
        "hardware": torch.cuda.get_device_name(device) if on_gpu else "CPU: a trial, no measurement",
        "versions": {package: version(package) for package in ("torch", "diffusers", "transformers")},
    }


def report_shapes(scale: Scale, skipped: list[Part]) -> None:
    """What can be said without a GPU."""
    found = check_shapes(scale, LAYOUTS)
    with atomic_write(SHAPES, overwrite=True) as temporary:
        temporary.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for layout, values in found["layouts"].items():
        print(
            f"{layout}: every stage takes and gives the shapes it should; {values['tflop_of_a_guided_call']:.0f} TFLOP"
        )
    print(f"written to {SHAPES.name}. No CUDA device here, so no time, memory or error was measured, and {RESULT.name}")
    print(f"stays as it was. Skipped: {'; '.join(part.name for part in skipped)}.")


def main() -> None:
    """Measure what there is time and hardware for."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="when to stop, counted from the start (default: 9)")
    parser.add_argument("--missing", action="store_true", help="only parts without figures in the result file")
    parser.add_argument("--parts", nargs="+", default=[""], metavar="WORD", help="only parts that hold such a word")
    parser.add_argument("--scale", choices=SCALES, default="20B")
    parser.add_argument("--result", type=Path, help=f"default: {RESULT.name} beside this script, on a GPU only")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(SCALES[options.scale], device)
    parts = make_parts(bench)
    if device.type == "cpu" and options.scale == "20B":
        report_shapes(bench.scale, parts)
        return
    if device.type == "cpu" and options.result is None:
        parser.error("a trial on the CPU is no measurement: name its file with --result")
    command = " ".join(["python", *sys.argv])
    results = Results(options.result or RESULT, settings_of(options.scale, bench.scale, device), command)
    needed = ("weights", "ceiling")  # by all others
    wanted = [
        part
        for part in parts
        if part.name in needed
        or (any(word in part.name for word in options.parts) and not (options.missing and results.measured(part.name)))
    ]
    complete = run_parts(wanted, results.record, until=began + 60 * options.minutes, tidy=bench.tidy)
    print(json.dumps(summary(results.parts), indent=1, ensure_ascii=False))
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
