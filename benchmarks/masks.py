"""Time trimaps from alpha beside OpenCV's erosion and dilation with an elliptical kernel; writes masks.json.

    python benchmarks/masks.py [--sides 512 1024 2048] [--rounds 5]

Set OMP_NUM_THREADS=1: figures are processor seconds of one core, medians, OpenCV held to one thread too. Both sides do
the whole job, from 8-bit alpha to the three values of the trimap. OpenCV's ellipse is its own drawing of a disk: how
many pixels it decides otherwise is stated, and so is the difference to OpenCV with the exact disk as its kernel, which
must be none.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import scipy

from omnialpha.imaging.masks import trimap

RESULT = Path(__file__).with_suffix(".json")
SHARES = (0.025, 0.05, 0.075, 0.10, 0.20)


def make_alpha(side: int) -> np.ndarray:
    """A wavy disk with a soft rim and strands of hair, 8 bit."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = np.arctan2(y, x)
    radius = np.hypot(x, y) + 0.03 * np.sin(12 * angle)
    body = np.clip((0.28 - radius) * 40 + 0.5, 0, 1)
    hair = np.clip(np.cos(90 * angle + 20 * radius) * 3 - 2, 0, 1) * (radius < 0.36)
    return np.rint(np.maximum(body, hair) * 255).astype(np.uint8)


def exact_disk(k: int) -> np.ndarray:
    """Every pixel whose centre is at most k/2 away."""
    reach = k // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (x * x + y * y <= k * k / 4).astype(np.uint8)


def opencv_trimap(alpha: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    inner = cv2.erode((alpha > 0.95 * 255).astype(np.uint8), kernel)
    outer = cv2.dilate((alpha >= 0.05 * 255).astype(np.uint8), kernel)
    return np.where(inner, 255, np.where(outer, 128, 0)).astype(np.uint8)


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return round(statistics.median(times) * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)

    rows = []
    for side in options.sides:
        alpha = make_alpha(side)
        for share in SHARES:
            k = round(share * side) | 1  # OpenCV's kernels have a centre, so an odd size
            ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))
            ours = trimap(alpha, k)
            row = {
                "side": side,
                "share": share,
                "k": k,
                "ours_ms": milliseconds(lambda: trimap(alpha, k), options.rounds),  # noqa: B023 called at once
                "opencv_ms": milliseconds(lambda: opencv_trimap(alpha, ellipse), options.rounds),  # noqa: B023
                "pixels_unlike_opencv_with_the_exact_disk": int((ours != opencv_trimap(alpha, exact_disk(k))).sum()),
                "share_unlike_opencv_ellipse": round(float((ours != opencv_trimap(alpha, ellipse)).mean()), 5),
            }
            row["times_faster"] = round(float(row["opencv_ms"]) / float(row["ours_ms"]), 2)
            rows.append(row)
            print(row, flush=True)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, one core, shared with other work; processor time",
        "rounds": options.rounds,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "scipy": scipy.__version__,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
