"""Time and memory of nano against the number of pictures, their size and the batch; writes growth.json and a plot.

    python benchmarks/growth.py [--longest 2048] [--rounds 3]

The embedded checkpoint's real pipeline on one core, one sampling step, no guidance; its limits of the working
area are lifted, so that everything grows. Every point has a process of its own (forked from one that only loaded the
weights): seconds are processor time of the fastest round, by piece; memory is how far the process's peak rose above
its start. A first round runs under torch's counter of operations, so that a cliff can be told from honest work: seconds
that grow faster than operations are the machine's (caches, allocations), not the model's. A point that takes more than
ten seconds is measured in that round alone.

Exponents are slopes of straight lines through the logarithms, over all points of an axis.
"""

import argparse
import dataclasses
import json
import logging
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from flops import counter
from matplotlib import pyplot
from model_20b import picture
from PIL import ImageChops
from stopwatch import Clock, processor_clock, timed_pieces

import omnialpha
from omnialpha.imaging.files import atomic_write
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.prepare import use_profile

RESULT = Path(__file__).with_suffix(".json")
PLOT = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
SIDE = 256  # where the side is not what grows
SIDES = (256, 384, 512, 768, 1024, 1536, 2048)
PICTURES = range(1, 9)
BATCHES = (1, 2, 4, 8)
LONG = 10.0  # seconds
STEEPER = 1.5  # seconds for an operation, over those at the point before: worth a look
AXES = {"pictures": "pictures, n + m", "side": "side of a picture, pixels", "batch": "samples in a batch"}
PIECES = ("vlm", "encode", "denoise", "decode")
logger = logging.getLogger("growth")


@dataclasses.dataclass(frozen=True)
class Point:
    """One call.

    Attributes:
        inputs: n.
        targets: m.
        side: of all pictures, pixels.
        batch: samples.
    """

    inputs: int = 1
    targets: int = 1
    side: int = SIDE
    batch: int = 1


def points(axis: str, longest: int) -> dict[int, Point]:
    """What is measured along an axis."""
    if axis == "pictures":  # half of them inputs
        return {k: Point(inputs=k // 2, targets=k - k // 2) for k in PICTURES}
    if axis == "side":
        return {side: Point(side=side) for side in SIDES if side <= longest}
    return {batch: Point(batch=batch) for batch in BATCHES}


def load() -> OmniAlphaPipeline:
    """The embedded checkpoint without limits of size."""
    pipe = omnialpha.load("nano", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return use_profile(pipe, dataclasses.replace(pipe.profile, max_area=None, vlm_area=None))


def call(pipe: OmniAlphaPipeline, point: Point) -> None:
    """One call of the real pipeline; every sample has pictures of its own, as equal ones would be read once."""
    count = point.batch * point.inputs
    pictures = [ImageChops.offset(picture(point.side), number) for number in range(count)]
    pipe(
        prompt=["Take this picture apart."] * point.batch,
        images=[pictures[first :: point.batch] for first in range(point.batch)],
        num_targets=point.targets,
        height=point.side,
        width=point.side,
        num_inference_steps=1,
        true_cfg_scale=1.0,
        seed=0,
        output_type="pt",
    )


def measure(pipe: OmniAlphaPipeline, rounds: int, point: Point) -> dict[str, Any]:
    """Seconds, memory and operations of one call, in this process, which nothing else uses."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    with counter() as total:
        operations_clock = Clock(mark=total.get_total_flops, between=lambda start, end: end - start)
        with timed_pieces(pipe, operations_clock) as operations:
            seconds = timed(pipe, point)  # of a long call nearly what it takes without the counter
    peak = resident("VmHWM")
    if seconds["all"] < LONG:
        seconds = min((timed(pipe, point) for _ in range(rounds)), key=lambda found: found["all"])
    return {
        **dataclasses.asdict(point),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "gflop": {name: round(value / 1e9, 4) for name, value in operations.seconds().items()},
        "peak_mb": round((peak - before) / 1e6, 1),
    }


def timed(pipe: OmniAlphaPipeline, point: Point) -> dict[str, float]:
    """Processor seconds of one call, by piece and in all."""
    with timed_pieces(pipe, processor_clock) as spans:
        start = time.process_time()
        call(pipe, point)
        total = time.process_time() - start
    return spans.seconds() | {"all": total}


def in_own_process(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `call` returns in a process forked from this one.

    Raises:
        RuntimeError: it ended without an answer; its own message is on stderr.
    """
    context = multiprocessing.get_context("fork")  # which hands over the loaded weights as they are
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(call()))
    process.start()
    sender.close()
    try:
        answer: dict[str, Any] = receiver.recv()
    except EOFError as error:
        raise RuntimeError("the measurement's process ended without an answer") from error
    finally:
        process.join()
    return answer


def resident(what: str) -> int:
    """Bytes of this process in memory: "VmRSS" now, "VmHWM" at the peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the straight line through the logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def growth(rows: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Exponents of an axis, and where a piece's operations suddenly take longer.

    Args:
        rows: from place on the axis to what `measure` returned.

    Returns:
        "seconds" and "gflop" by piece, "peak_mb", and "steeper": sentences, empty where nothing is to explain.
    """
    places = list(rows)
    exponents: dict[str, Any] = {"seconds": {}, "gflop": {}}
    steeper = []
    for piece in PIECES:
        known = [place for place in places if rows[place]["gflop"][piece] > 0]
        for figure in ("seconds", "gflop") if len(known) > 1 else ():
            exponents[figure][piece] = round(exponent(known, [rows[place][figure][piece] for place in known]), 2)
        rates = [rows[place]["seconds"][piece] / rows[place]["gflop"][piece] for place in known]
        for place, slower, before in zip(known[1:], rates[1:], rates, strict=False):
            if slower > STEEPER * before:
                steeper.append(f"{piece} at {place}: {slower / before:.2f} times the seconds for an operation")
    exponents["seconds"]["all"] = round(exponent(places, [row["seconds"]["all"] for row in rows.values()]), 2)
    exponents["peak_mb"] = round(exponent(places, [row["peak_mb"] for row in rows.values()]), 2)
    return exponents | {"steeper": steeper}


def plot(measured: Mapping[str, Mapping[int, dict[str, Any]]], found: Mapping[str, dict[str, Any]], file: Path) -> None:
    """Seconds by piece above, memory below, one column for each axis, all logarithmic."""
    figure, axes = pyplot.subplots(2, len(measured), figsize=(13, 7), sharex="col", sharey="row", layout="constrained")
    for column, (axis, rows) in enumerate(measured.items()):
        above, below = axes[0][column], axes[1][column]
        for piece in ("all", *PIECES):
            places = [place for place in rows if rows[place]["seconds"][piece] > 0]
            slope = found[axis]["seconds"].get(piece)
            above.loglog(
                places,
                [rows[place]["seconds"][piece] for place in places],
                marker="o",
                color="black" if piece == "all" else None,
                label=piece if slope is None else f"{piece}: exponent {slope:.2f}",
            )
        memory = [row["peak_mb"] for row in rows.values()]
        below.loglog(list(rows), memory, marker="o", color="black", label=f"exponent {found[axis]['peak_mb']:.2f}")
        below.set_xlabel(AXES[axis])
        below.set_xticks(list(rows), [str(place) for place in rows])
        below.minorticks_off()
        for drawn in (above, below):
            drawn.grid(alpha=0.3)
            drawn.legend(fontsize=8)
    axes[0][0].set_ylabel("processor seconds")
    axes[1][0].set_ylabel("peak memory beyond the weights, MB")
    with atomic_write(file, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def main() -> None:
    """Measure every axis, fit, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=max(SIDES), help="longest side, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    matplotlib.use("Agg")
    torch.set_num_threads(1)  # before the first parallel work: threads do not survive a fork

    pipe = load()
    measured: dict[str, dict[int, dict[str, Any]]] = {axis: {} for axis in AXES}
    for axis, rows in measured.items():
        for place, point in points(axis, options.longest).items():
            rows[place] = in_own_process(partial(measure, pipe, options.rounds, point))
            logger.info("%s %d: %s", axis, place, json.dumps(rows[place]))
    found = {axis: growth(rows) for axis, rows in measured.items()}
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, one core; processor time",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "model": "nano, limits of size lifted; one step, no guidance",
        "exponents": found,
        "points": measured,
    }
    with atomic_write(options.result, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    plot(measured, found, options.plot)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
