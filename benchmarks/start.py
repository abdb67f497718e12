"""Time starts in fresh interpreters: help, import, the embedded checkpoint; the rival is stock diffusers; start.json.

    python benchmarks/start.py [--rounds 5]

Ours and stock take turns. Stock loads the same weights: a folder of links to them with an index that names
QwenImageEditPlusPipeline. What passes after `import torch` is divided into the imports of the libraries below
(diffusers, transformers and what they import) and the rest. Processor time, which other work on the machine disturbs
least, is given beside wall-clock time.

Where the libraries' part goes is in `libraries`: each module of `NEEDED` imported after the ones above it. None of them
is a choice of ours: the checkpoint consists of four of the libraries' classes, and to import such a class is to import
all of these. Their sum is what no program that uses the classes can go below.

The table in docs/performance.md is written, too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from page import write_table

RESULT = Path(__file__).with_suffix(".json")
NANO = Path(__file__).parents[1] / "src" / "omnialpha" / "assets" / "nano"

# Module: why it comes with the classes of the checkpoint.
NEEDED = {
    "torch._dynamo": "torch's compiler; transformers.masking_utils and diffusers.utils.torch_utils import it",
    "transformers": "reads the names out of every model's files",
    "transformers.models": "reads them again",
    "transformers.modeling_utils": "base of the VLM's class; brings all quantizers and torch.distributed",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl": "the VLM",
    "diffusers.utils": "lists the installed packages",
    "scipy.stats": "the scheduler imports it, and so do others that diffusers.loaders brings",
    "peft": "diffusers.hooks.layerwise_casting imports it",
    "diffusers.models.transformers": "the package imports every transformer of diffusers",
    "diffusers.models.autoencoders": "and every autoencoder",
    "diffusers.pipelines.pipeline_utils": "base of the pipeline's class",
}
VLM_ALONE = 5
"""How many of them, from the top, the VLM's class alone takes."""

IMPORTS = """
import importlib, json, sys, time
import torch
seconds = {}
for name in sys.argv[1:]:
    before = time.perf_counter(), time.process_time()
    importlib.import_module(name)
    seconds[name] = {"wall": time.perf_counter() - before[0], "processor": time.process_time() - before[1]}
print(json.dumps(seconds))
"""

MARKS = """
import json, sys, time
marks = []
mark = lambda: marks.append((time.perf_counter(), time.process_time()))
import torch
mark()
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from diffusers import QwenImageEditPlusPipeline
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
mark()
"""
OURS = """
import omnialpha
pipe = omnialpha.load("nano")
"""
STOCK = """
pipe = QwenImageEditPlusPipeline.from_pretrained(sys.argv[1], processor=None, torch_dtype=torch.float32)
"""
REPORT = """
mark()
parts = (pipe.vae, pipe.text_encoder, pipe.transformer)
total = sum(p.double().abs().sum().item() for part in parts for p in part.parameters())
print(json.dumps({"marks": marks, "sum": total}))
"""


def stock_folder(folder: Path) -> Path:
    """The embedded checkpoint under a stock pipeline's name."""
    index = json.loads((NANO / "model_index.json").read_text())
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    for part in parts:
        (folder / part).symlink_to(NANO / part)
    renamed = {part: index[part] for part in parts} | {"processor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(renamed | {"_class_name": "QwenImageEditPlusPipeline"}))
    return folder


def seconds(*words: str) -> dict[str, float]:
    """Wall-clock and processor seconds of one interpreter."""
    before = os.times()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": after.elapsed - before.elapsed, "processor": processor}


def load(code: str, folder: Path) -> dict[str, float]:
    """Seconds after `import torch`, in parts, and the sum of all weights."""
    command = [sys.executable, "-c", MARKS + code + REPORT, str(folder)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    torch_, libraries, end = report["marks"]
    return {
        "libraries": libraries[0] - torch_[0],
        "checkpoint": end[0] - libraries[0],
        "wall": end[0] - torch_[0],
        "processor": end[1] - torch_[1],
        "sum": report["sum"],
    }


def libraries() -> dict[str, dict[str, float]]:
    """Seconds of each needed import, and of those that the VLM's class and all classes take."""
    command = [sys.executable, "-c", IMPORTS, *NEEDED]
    steps = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name, count in (("the VLM's class alone", VLM_ALONE), ("all", len(NEEDED))):
        steps[name] = {clock: sum(steps[key][clock] for key in [*NEEDED][:count]) for clock in ("wall", "processor")}
    return steps


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Median of each figure, seconds."""
    return {key: round(statistics.median(values[key] for values in rounds), 3) for key in rounds[0] if key != "sum"}


def table(result: dict[str, Any]) -> list[list[str]]:
    """Processor seconds for docs/performance.md."""
    ours, stock = (f"{result['after_import_torch'][side]['processor']:.1f}" for side in ("ours", "stock"))
    rows = [
        ["processor seconds", "ours", "stock", "goal", ""],
        ["`omnialpha --help`", f"{result['help']['processor']:.2f}", "–", "0.3", ""],
        ["`import omnialpha`", f"{result['import']['processor']:.2f}", "–", "0.3", ""],
        ["embedded checkpoint ready, after `import torch`", ours, stock, "2", ""],
    ]
    for name, step in result["libraries"].items():
        label = f"– import `{name}`" if name in NEEDED else f"– imports, {name}"
        taken = f"{step['processor']:.2f}"  # of the same modules on both sides
        rows.append([label, taken, taken, "", NEEDED.get(name, "")])
    return rows


def main() -> None:
    """Run everything in turns and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("help", "import", "ours", "stock")}
    imports: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        stock = stock_folder(Path(folder))
        for _ in range(rounds):
            found["help"].append(seconds("-m", "omnialpha", "--help"))
            found["import"].append(seconds("-c", "import omnialpha"))
            found["ours"].append(load(OURS, stock))
            found["stock"].append(load(STOCK, stock))
            imports.append(libraries())
    sums = {round(values["sum"], 6) for side in ("ours", "stock") for values in found[side]}
    assert len(sums) == 1, "both sides must load the same weights"
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "peft")},
        "installed_packages": len(list(distributions())),  # diffusers, transformers and peft each look through them
        "unit": "seconds, medians",
        "help": medians(found["help"]),
        "import": medians(found["import"]),
        "after_import_torch": {side: medians(found[side]) for side in ("ours", "stock")},
        "libraries": {
            name: medians([steps[name] for steps in imports]) | ({"why": NEEDED[name]} if name in NEEDED else {})
            for name in imports[0]
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_table(RESULT.stem, table(result))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
