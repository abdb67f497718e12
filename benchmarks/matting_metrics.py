"""Time the five matting metrics of one pair beside straightforward versions, in one run; writes matting_metrics.json.

    python benchmarks/matting_metrics.py [--sides 256 512 1024 2048 4096] [--rounds 5]

Set OMP_NUM_THREADS=1: figures are processor seconds of one core (`time.process_time`), so that a busy machine does not
count, though its caches are shared. Straightforward means NumPy and scipy.ndimage as the formulas read: correlate1d for
GRAD, one labelling per threshold for CONN. The pairs are a soft disk with a wavy rim; "edge" has noise on the rim only,
like a good prediction, "everywhere" has noise of 0.05 on every pixel, the worst case for CONN's runs.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import scipy
from scipy import ndimage

from omnialpha.evaluation.matting import CONVENTIONS, matting_metrics

RESULT = Path(__file__).with_suffix(".json")


def make_pair(side: int, noise: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    radius = np.hypot(x, y) + 0.03 * np.sin(12 * np.arctan2(y, x))
    target = np.clip((0.3 - radius) * 20 + 0.5, 0, 1)
    disturbed = np.ones_like(target) if noise == "everywhere" else (target > 0) & (target < 1)
    pred = np.clip(target + rng.normal(0, 0.05, target.shape) * disturbed, 0, 1)
    return np.rint(pred * 255).astype(np.uint8), np.rint(target * 255).astype(np.uint8)


def plain_magnitude(matte: np.ndarray, convention: str) -> np.ndarray:
    rules = CONVENTIONS[convention]
    if rules.normalise:
        matte = (matte - matte.min()) / (matte.max() - matte.min())
    mode = "nearest" if convention == "dim" else "reflect"
    smooth, derive = rules.taps

    def filtered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return ndimage.correlate1d(ndimage.correlate1d(matte, first, axis=0, mode=mode), second, axis=1, mode=mode)

    return np.hypot(filtered(smooth, derive), filtered(derive, smooth))


def plain_conn(pred: np.ndarray, target: np.ndarray, convention: str) -> float:
    rules = CONVENTIONS[convention]
    reached = np.full(pred.shape, -1.0)
    for index in range(1, 11):
        labels, count = ndimage.label((pred >= rules.thresholds[index]) & (target >= rules.thresholds[index]))
        if count == 0 and rules.skip_empty:
            continue
        largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else np.zeros(pred.shape, bool)
        reached[(reached == -1) & ~largest] = rules.thresholds[index - 1]
    reached[reached == -1] = 1
    phi = [1 - (matte - reached) * (matte - reached >= 0.15) for matte in (pred, target)]
    return float(np.abs(phi[0] - phi[1]).sum() / 1000)


def plain_metrics(pred: np.ndarray, target: np.ndarray, convention: str) -> dict[str, float]:
    pred, target = pred / 255, target / 255
    difference = np.abs(pred - target)
    gradient = (plain_magnitude(pred, convention) - plain_magnitude(target, convention)) ** 2
    return {
        "sad": float(difference.sum() / 1000),
        "mse": float((difference**2).mean()),
        "mad": float(difference.mean()),
        "grad": float(gradient.sum() / CONVENTIONS[convention].grad_unit),
        "conn": plain_conn(pred, target, convention),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    rows = []
    for side in options.sides:
        for noise in ("edge", "everywhere"):
            pair = make_pair(side, noise)
            for convention in CONVENTIONS:
                ours = matting_metrics(*pair, convention=convention)
                plain = plain_metrics(*pair, convention)
                sides: dict[str, Callable[..., object]] = {"ours": matting_metrics, "plain": plain_metrics}
                times: dict[str, list[float]] = {"ours": [], "plain": []}
                for _ in range(options.rounds):
                    for name, metrics in sides.items():
                        times[name].append(seconds(partial(metrics, *pair, convention=convention)))
                medians = {name: statistics.median(values) for name, values in times.items()}
                row = {
                    "side": side,
                    "noise": noise,
                    "convention": convention,
                    "ours_ms": round(medians["ours"] * 1000, 1),
                    "plain_ms": round(medians["plain"] * 1000, 1),
                    "times_faster": round(medians["plain"] / medians["ours"], 2),
                    "largest_relative_difference": max(abs(ours[k] - plain[k]) / abs(plain[k]) for k in plain),
                }
                rows.append(row)
                print(row, flush=True)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, one core, shared with other work; processor time, median of rounds",
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "rounds": options.rounds,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
