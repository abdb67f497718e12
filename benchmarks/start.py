"""Time starts in fresh interpreters: help, import, the embedded checkpoint; the rival is stock diffusers; start.json.

    python benchmarks/start.py [--rounds 5]

Ours and stock take turns. Stock loads the same weights: a folder of links to them with an index that names
QwenImageEditPlusPipeline. What passes after `import torch` is divided into the imports of the libraries below
(diffusers, transformers and what they import) and the rest. Processor time, which other work on the machine disturbs
least, is given beside wall-clock time.
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

RESULT = Path(__file__).with_suffix(".json")
NANO = Path(__file__).parents[1] / "src" / "omnialpha" / "assets" / "nano"

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


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Median of each figure, seconds."""
    return {key: round(statistics.median(values[key] for values in rounds), 3) for key in rounds[0] if key != "sum"}


def main() -> None:
    """Run everything in turns and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("help", "import", "ours", "stock")}
    with tempfile.TemporaryDirectory() as folder:
        stock = stock_folder(Path(folder))
        for _ in range(rounds):
            found["help"].append(seconds("-m", "omnialpha", "--help"))
            found["import"].append(seconds("-c", "import omnialpha"))
            found["ours"].append(load(OURS, stock))
            found["stock"].append(load(STOCK, stock))
    sums = {round(values["sum"], 6) for side in ("ours", "stock") for values in found[side]}
    assert len(sums) == 1, "both sides must load the same weights"
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "peft")},
        "installed_packages": len(list(distributions())),  # diffusers, transformers and peft each look through them
        "unit": "seconds, medians",
        "help": medians(found["help"]),
        "import": medians(found["import"]),
        "after_import_torch": {side: medians(found[side]) for side in ("ours", "stock")},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
