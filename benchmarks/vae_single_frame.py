"""Time and memory of a picture through the VAE and back, ours beside stock diffusers; writes vae_single_frame.json.

    python benchmarks/vae_single_frame.py [--size 512] [--rounds 2] [--canvases 96:512 16:1024]

Random weights: time, memory and rounding do not depend on them. For time, stock and ours take turns, so that a busy
machine slows both; the ratio of the medians is what counts. For memory, each side encodes and decodes in a fresh
process; a canvas is the VAE's width (96: the full-size one) and the side of the picture.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKLQwenImage

from omnialpha.models.vae import single_frame

RESULT = Path(__file__).with_suffix(".json")
SIDES = ("stock", "ours")
FULL_WIDTH = 96
WARM_UP_SIZE = 64


def make_vae(side: str, width: int = FULL_WIDTH) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(base_dim=width, input_channels=4).eval()
    return vae if side == "stock" else single_frame(vae)


def make_picture(size: int) -> torch.Tensor:
    return torch.rand(1, 4, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def timed(call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Wall-clock seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@torch.inference_mode()
def compare_times(size: int, rounds: int) -> dict[str, object]:
    """Both sides in turns on the same picture and the same latents."""
    vaes = {side: make_vae(side) for side in SIDES}
    for vae in vaes.values():
        vae.decode(vae.encode(make_picture(WARM_UP_SIZE)).latent_dist.mode())
    picture = make_picture(size)
    latents = vaes["stock"].encode(picture).latent_dist.mode()
    seconds: dict[str, dict[str, list[float]]] = {stage: {side: [] for side in SIDES} for stage in ("encode", "decode")}
    results: dict[str, dict[str, torch.Tensor]] = {stage: {} for stage in seconds}
    for _ in range(rounds):
        for side, vae in vaes.items():
            for stage, call in {
                "encode": lambda vae=vae: vae.encode(picture).latent_dist.mode(),
                "decode": lambda vae=vae: vae.decode(latents).sample,
            }.items():
                spent, results[stage][side] = timed(call)
                seconds[stage][side].append(spent)

    medians = {stage: {side: statistics.median(of[side]) for side in SIDES} for stage, of in seconds.items()}
    medians["together"] = {side: medians["encode"][side] + medians["decode"][side] for side in SIDES}
    times = {
        stage: {
            "stock_seconds": round(of["stock"], 3),
            "ours_seconds": round(of["ours"], 3),
            "times_faster": round(of["stock"] / of["ours"], 2),
        }
        for stage, of in medians.items()
    }
    differences = {stage: (of["stock"] - of["ours"]).abs().max().item() for stage, of in results.items()}
    return {"size": size, "rounds": rounds, **times, "max_difference": differences}


@torch.inference_mode()
def peak_megabytes(side: str, width: int, size: int) -> dict[str, int]:
    """Peak of this process while it encodes and decodes one picture, and how much of it came with that."""
    vae, picture = make_vae(side, width), make_picture(size)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    vae.decode(vae.encode(picture).latent_dist.mode())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes
    return {f"{side}_process_mb": round(peak / 2**20), f"{side}_working_mb": round((peak - before) / 2**20)}


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
