"""Memory and time of plans, forecast and measured, and what each storage does to results; writes memory_plans.json.

    python benchmarks/memory_plans.py

Two checkpoints: the embedded one at its own 64², saved in bfloat16 first, and "wide", a pipeline of the released layout
with random weights (five blocks of a quarter of the 20B transformer's width, saved in bfloat16 as checkpoints are),
which is what plans are for. Every row has a process of its own, forked from one that has imported everything, and makes
a small call before, so that libraries are in memory. It loads the checkpoint by `omnialpha.load(…, memory=PLAN)` and
makes one call. Measured is how far the anonymous memory of the process (looked at every two milliseconds) peaks during
the call above what it was before loading: that is what a machine runs out of, and it has what torch's allocator does
not see, as kernels' scratch. Pages of the files that are being read are left out, since the system drops them when it
needs room. The C library is told to give back at once what is freed, otherwise the figure would be its reserves. The
forecast comes from configurations alone, as for `omnialpha doctor --plan`.

What a storage does to results is measured with the embedded checkpoint (its weights are trained) on pictures of the
package, over nine backgrounds, against the result of the full weights.
"""

import argparse
import ctypes
import gc
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from growth import in_own_process, resident
from model_20b import Scale, components, our_pipeline, picture
from page import write_table
from PIL import Image
from step_cache import distance

import omnialpha
from omnialpha.apps.loading import quieten_dependencies
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.imaging.files import atomic_write
from omnialpha.memory.apply import installed
from omnialpha.memory.forecast import forecasts
from omnialpha.memory.loading import find
from omnialpha.memory.machine import Machine, measure
from omnialpha.memory.plans import STORAGES, parse
from omnialpha.memory.trace import Work
from omnialpha.tasks import task

RESULT = Path(__file__).with_suffix(".json")
GOAL = 0.1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
WIDE = Scale(
    transformer={"num_layers": 5, "num_attention_heads": 6, "joint_attention_dim": 1024},
    vlm={
        "text_config": {
            "vocab_size": 4096,
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {"depth": 4, "hidden_size": 640, "intermediate_size": 1710, "out_hidden_size": 1024},
    },
    vae={"base_dim": 48},
    side=256,
    steps=2,
    few_steps=2,
)


@dataclass(frozen=True)
class Row:
    """One measurement: attributes as of `omnialpha.load` and `Work`."""

    model: str
    plan: str
    task: str = "decomposition_auto"
    side: int = 256
    targets: int | None = None
    guidance: float = 1.0
    samples: int = 1
    steps: int = 2

    @property
    def work(self) -> Work:
        """The call, for the forecast."""
        return Work(
            task=self.task,
            size=(self.side, self.side),
            targets=self.targets,
            steps=self.steps,
            guidance=self.guidance,
            samples=self.samples,
        )


def rows(gguf: str) -> Iterator[Row]:
    """What is measured.

    Args:
        gguf: the GGUF file of the wide model's transformer.
    """
    yield from (Row("nano", plan, side=64) for plan in ("full", "fp8_layerwise"))
    offloads = ("full+free_text_encoder", "full+group_offload", "fp8_layerwise+group_offload")
    yield from (Row("wide", plan) for plan in (*CPU_STORAGES, gguf, *offloads))
    yield Row("wide", "full", task="matting_auto", side=448)
    yield Row("wide", "full", targets=5, guidance=4.0)
    yield Row("wide", "full+free_text_encoder", targets=3, guidance=4.0, side=320)
    yield Row("wide", "full", task="text_to_image", side=384, guidance=4.0)
    yield Row("wide", "fp8_layerwise+free_text_encoder", task="matting_trimap", samples=2)


CPU_STORAGES = [
    name
    for name, storage in STORAGES.items()  # bfloat16 takes minutes on processors without instructions for it
    if "cpu" in storage.devices and name not in ("bf16", "gguf") and installed(parse(name))
]


def call(pipe: omnialpha.OmniAlphaPipeline, row: Row) -> None:
    """The call of a row."""
    found = task(row.task)
    pipe(
        task=row.task,
        text=["a description of what there is to see"] * row.samples if found.text else None,
        images=[[_distinct(row.side, 10 * s + k) for k in range(len(found.inputs))] for s in range(row.samples)],
        num_targets=row.targets,
        height=row.side,
        width=row.side,
        num_inference_steps=row.steps,
        true_cfg_scale=row.guidance,
        seed=0,
        output_type="pt",
    )


def _distinct(side: int, number: int) -> Image.Image:
    """A picture of its own: equal ones would be read once."""
    image = picture(side)
    image.putpixel((0, 0), (number, 0, 0, 255))
    return image


def measured(name: str, row: Row) -> dict[str, float]:
    """Peak in GB of a call above what there was before loading, and its seconds; in this process."""
    call(omnialpha.load("nano", device="cpu"), Row("nano", "full", side=64))
    collect()
    before = resident("RssAnon")
    pipe = omnialpha.load(name, device="cpu", memory=row.plan)
    pipe.set_progress_bar_config(disable=True)
    collect()
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    call(pipe, row)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {"measured_gb": (peak - before) / 1e9, "measured_seconds": seconds}


def collect() -> None:
    """Free what is not used, and give it back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def compare(row: Row, name: str, machine: Machine) -> dict[str, Any]:
    """One row of the result."""
    [forecast] = forecasts(find(name), row.work, machine, dtype=torch.float32, plans=[parse(row.plan)])
    found = in_own_process(partial(measured, name, row))
    values = {"forecast_gb": forecast.peak / 1e9, "forecast_seconds": forecast.seconds, **found}
    error = values["forecast_gb"] / values["measured_gb"] - 1
    result = asdict(row) | {key: float(f"{value:.4g}") for key, value in values.items()} | {"error": round(error, 3)}
    return result | {
        "plan": row.plan.rsplit("/", 1)[-1],
        "stage": max(forecast.stages, key=forecast.stages.__getitem__),
    }


def write_gguf(folder: Path, file: Path) -> Path:
    """A GGUF file of a saved pipeline's transformer: matrices in eight bits, the rest in float32."""
    transformer = omnialpha.load(folder, device="cpu").transformer
    writer = GGUFWriter(file, arch="qwen_image")
    for name, tensor in transformer.state_dict().items():
        kind = GGMLQuantizationType.Q8_0 if tensor.ndim == 2 else GGMLQuantizationType.F32
        values = tensor.numpy()
        writer.add_tensor(name, quantize(values, kind) if tensor.ndim == 2 else values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def save(folder: Path) -> dict[str, Any]:
    """Save the wide model in a folder, and beside it the embedded checkpoint, both in bfloat16, and a GGUF file."""
    our_pipeline(components(WIDE, torch.device("cpu"), torch.bfloat16)).save_pretrained(folder)
    omnialpha.load("nano", device="cpu", dtype="bfloat16").save_pretrained(folder.parent / "nano")
    write_gguf(folder, folder.parent / "q8_0.gguf")
    return {}


def fidelity(storages: Sequence[str], side: int = 64, pictures: int = 4) -> list[dict[str, Any]]:
    """How far the embedded checkpoint's layers move when its transformer is stored otherwise."""
    images = [Image.open(example.files[0]).convert("RGB").resize((side, side)) for example in EXAMPLES[:pictures]]

    def layers(storage: str) -> list[np.ndarray]:
        pipe = omnialpha.load("nano", device="cpu", memory=storage)
        pipe.set_progress_bar_config(disable=True)
        return [pipe(task="decomposition_auto", images=[image], seed=0, output_type="np").images[0] for image in images]

    exact, found = layers("full"), []
    for storage in storages:
        pairs = [distance(result, want) for result, want in zip(layers(storage), exact, strict=True)]
        squares, alpha = np.mean(pairs, axis=0)
        found.append(
            {
                "storage": storage,
                "psnr_db": round(-10 * float(np.log10(squares)), 1),
                "alpha_mad": round(float(alpha), 5),
            }
        )
    return found


def tables(result: Mapping[str, Any]) -> None:
    """Write the tables of docs/performance.md."""
    head = ["checkpoint", "plan", "call", "GB forecast", "GB measured", "error", "seconds forecast", "seconds measured"]
    lines = [head]
    for row in result["rows"]:
        what = f"{row['task']} {row['side']}²" + (f", m = {row['targets']}" if row["targets"] else "")
        what += ", guidance" * (row["guidance"] > 1) + (f", batch of {row['samples']}" if row["samples"] > 1 else "")
        gigabytes = f"{row['forecast_gb']:.3g}", f"{row['measured_gb']:.3g}", f"{row['error']:+.1%}"
        seconds = f"{row['forecast_seconds']:.2g}", f"{row['measured_seconds']:.2g}"
        lines.append([row["model"], f"`{row['plan']}`", what, *gigabytes, *seconds])
    write_table("memory_plans", lines)
    kept = [
        [f"`{row['storage']}`", f"{row['psnr_db']:.1f} dB", f"{row['alpha_mad']:.4f}"] for row in result["fidelity"]
    ]
    write_table("memory_plans, storages", [["storage", "PSNR", "alpha MAD"], *kept])


def main() -> None:
    """Measure every row, then the storages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    c_library = ctypes.CDLL(None)
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        c_library.mallopt(parameter, 256 * 1024)
    quieten_dependencies()
    storages = ["bf16", *(name for name in CPU_STORAGES if name != "full")]
    result: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, one core",
        "versions": {name: version(name) for name in ("torch", "diffusers", "gguf", "torchao") if find_spec(name)},
        "goal": GOAL,
        "fidelity": fidelity(storages),  # and so everything has been imported and has worked
    }
    machine = measure(torch.device("cpu"), (torch.float32, torch.bfloat16))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "wide"
        in_own_process(partial(save, folder))
        names = {"nano": str(folder.parent / "nano"), "wide": str(folder)}
        found = []
        for row in rows(str(folder.parent / "q8_0.gguf")):
            found.append(compare(row, names[row.model], machine))
            print(json.dumps(found[-1]), flush=True)
    result["gflops"] = {str(dtype): round(speed / 1e9, 1) for dtype, speed in machine.speeds.items()}
    result |= {"worst_error": max(abs(row["error"]) for row in found), "rows": found}
    with atomic_write(RESULT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables(result)


if __name__ == "__main__":
    main()
