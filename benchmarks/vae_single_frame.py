"""Time the single-frame path of the full-size VAE against the stock one, in one run; writes vae_single_frame.json.

    python benchmarks/vae_single_frame.py [--size 256] [--rounds 5]

Random weights: time and rounding do not depend on them. Stock and ours take turns, so that a busy machine slows both;
the ratio of the medians is what counts.
"""

import argparse
import copy
import json
import platform
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


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Run both sides and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the square picture, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    torch.manual_seed(0)
    stock = AutoencoderKLQwenImage(input_channels=4).eval()
    ours = single_frame(copy.deepcopy(stock))
    image = torch.rand(1, 4, 1, options.size, options.size) * 2 - 1
    latents = stock.encode(image).latent_dist.mode()

    sides = {"stock": stock, "ours": ours}
    times: dict[str, dict[str, list[float]]] = {stage: {side: [] for side in sides} for stage in ("encode", "decode")}
    for round_number in range(options.rounds + 1):
        for side, vae in sides.items():
            encode = seconds(lambda vae=vae: vae.encode(image))  # type: ignore[misc]
            decode = seconds(lambda vae=vae: vae.decode(latents))  # type: ignore[misc]
            if round_number:  # the first round warms up
                times["encode"][side].append(encode)
                times["decode"][side].append(decode)

    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{processor}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "image": [options.size, options.size],
        "dtype": "float32",
        "max_difference": {
            "encode": (ours.encode(image).latent_dist.mode() - latents).abs().max().item(),
            "decode": (ours.decode(latents).sample - stock.decode(latents).sample).abs().max().item(),
        },
    }
    for stage, by_side in times.items():
        medians = {side: statistics.median(values) for side, values in by_side.items()}
        result[stage] = {
            "stock_seconds": round(medians["stock"], 3),
            "ours_seconds": round(medians["ours"], 3),
            "times_faster": round(medians["stock"] / medians["ours"], 2),
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
