"""Time and memory of a picture through the VAE and back, ours beside stock diffusers; writes vae_single_frame.json.

    python benchmarks/vae_single_frame.py [--size 512] [--rounds 2] [--canvases 96:512 16:1024]

Random weights: time, memory and rounding do not depend on them. For time, stock and ours take turns, so that a busy
machine slows both; the ratio of the medians is what counts, of processor seconds where other work runs. For memory,
each side encodes and decodes in a fresh process; a canvas is the VAE's width (96: the full-size one) and the side of
the picture.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage

from omnialpha.models.vae import single_frame

RESULT = Path(__file__).with_suffix(".json")
SIDES = ("stock", "ours")
FULL_WIDTH = 96
WARM_UP_SIZE = 64
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def make_vae(side: str, width: int = FULL_WIDTH) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(base_dim=width, input_channels=4).eval()
    return vae if side == "stock" else single_frame(vae)


def make_picture(size: int) -> torch.Tensor:
    return torch.rand(1, 4, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def timed(call: Callable[[], torch.Tensor]) -> tuple[list[float], torch.Tensor]:
    """Seconds of a call by each of `CLOCKS`, and its result."""
    start = [now() for now in CLOCKS.values()]
    result = call()
    return [now() - then for now, then in zip(CLOCKS.values(), start, strict=True)], result


@torch.inference_mode()
def compare_times(size: int, rounds: int) -> dict[str, object]:
    """Both sides in turns on the same picture and the same latents."""
    vaes = {side: make_vae(side) for side in SIDES}
    for vae in vaes.values():
        vae.decode(vae.encode(make_picture(WARM_UP_SIZE)).latent_dist.mode())
    picture = make_picture(size)
    latents = torch.randn(1, 16, 1, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    stages: dict[str, Callable[[AutoencoderKLQwenImage], torch.Tensor]] = {
        "encode": lambda vae: vae.encode(picture).latent_dist.mode(),
        "decode": lambda vae: vae.decode(latents).sample,
    }
    spent: dict[str, dict[str, list[list[float]]]] = {stage: {side: [] for side in SIDES} for stage in stages}
    results: dict[str, dict[str, torch.Tensor]] = {stage: {} for stage in stages}
    for _ in range(rounds):
        for side, vae in vaes.items():
            for stage, run in stages.items():
                seconds, results[stage][side] = timed(partial(run, vae))
                spent[stage][side].append(seconds)

    medians = {stage: {side: np.median(rows, axis=0) for side, rows in of.items()} for stage, of in spent.items()}
    medians["together"] = {side: medians["encode"][side] + medians["decode"][side] for side in SIDES}
    times = {
        stage: {
            clock: {
                "stock_seconds": round(stock, 3),
                "ours_seconds": round(ours, 3),
                "times_faster": round(stock / ours, 2),
            }
            for clock, stock, ours in zip(CLOCKS, *(of[side].tolist() for side in SIDES), strict=True)
        }
        for stage, of in medians.items()
    }
    differences = {stage: (of["stock"] - of["ours"]).abs().max().item() for stage, of in results.items()}
    return {"size": size, "rounds": rounds, **times, "max_difference": differences}


def resident_megabytes(line: str) -> float:
    """Of this process, from Linux: VmRSS now, VmHWM at its highest."""
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) / 1024


@torch.inference_mode()
def peak_megabytes(side: str, width: int, size: int) -> dict[str, int]:
    """Peak of this process while it encodes and decodes one picture, and how much of it came with that."""
    vae, picture = make_vae(side, width), make_picture(size)
    before = resident_megabytes("VmRSS")
    vae.decode(vae.encode(picture).latent_dist.mode())
    peak = resident_megabytes("VmHWM")
    return {f"{side}_process_mb": round(peak), f"{side}_working_mb": round(peak - before)}


def compare_memory(width: int, size: int) -> dict[str, object]:
    """Each side in a fresh process."""
    row: dict[str, object] = {"width": width, "size": size}
    for side in SIDES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row |= pool.apply(peak_megabytes, (side, width, size))
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the timed picture, pixels")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--canvases", nargs="*", default=["96:512", "16:1024"], help="WIDTH:SIDE, for memory")
    options = parser.parse_args()
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{processor}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "dtype": "float32",
        "time": compare_times(options.size, options.rounds),
        "memory": [compare_memory(*map(int, canvas.split(":"))) for canvas in options.canvases],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
