"""Time and memory of `omnialpha data build` and publishing, against the number of cut-outs.

    python benchmarks/alphalayers.py --counts 100 1000 10000

Cut-outs are small synthetic pictures, so what is measured is the pipeline: records, filter with near-duplicates,
scores, ranking, masks, split and Parquet. Each count runs in a process of its own, from an empty folder; then the same
command once more, which finds all answers in the store. The passes of a build end with a file each: their times are
the differences of its files' times.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.alphalayers.build import PASSES, Local, build
from omnialpha.alphalayers.plan import Plan
from omnialpha.alphalayers.publish import publish
from omnialpha.alphalayers.quality import Limits

RESULT = Path(__file__).with_suffix(".json")
SIDE = 64


def draw_cutouts(folder: Path, count: int) -> None:
    """Ellipses of random place, colour and texture: no two are near-duplicates of each other on purpose."""
    folder.mkdir()
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for number in range(count):
        rng = np.random.default_rng(number)
        cx, cy = rng.uniform(0.4, 0.6, 2)
        rx, ry = rng.uniform(0.15, 0.35, 2)
        alpha = np.clip((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * 8, 0, 1)
        texture = np.kron(rng.random((8, 8, 3)), np.ones((SIDE // 8, SIDE // 8, 1)))
        pixels = np.dstack([texture * (alpha[..., None] > 0), alpha])
        Image.fromarray((pixels * 255).round().astype(np.uint8)).save(folder / f"thing {number:05d}.png")


def one_build(source: Path, out: Path) -> None:
    """Build and publish in this process; print what it took."""
    plan = Plan(source=source, limits=Limits(least_extent=8, distance=0), keep=1_000_000, size=SIDE)
    begun = time.time()
    report = build(plan, out, Local(plan, out))
    built = time.time()
    publish(out, overwrite=True)
    ended = time.time()
    ends = [begun, *((out / "work" / f"{name}.jsonl").stat().st_mtime for name in PASSES), built]
    seconds = dict(zip((*PASSES, "assemble"), np.diff(ends).tolist(), strict=True)) | {"publish": ended - built}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {
        "kept": report.kept,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_seconds": round(ended - begun, 1),
        "records_per_second": {n: round(report.entries / max(v, 1e-3)) for n, v in seconds.items()},
        "peak_mib": round(peak, 1),
    }
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_build(*options.one)
        return
    if len(options.counts) < 2:
        parser.error("growth needs two counts or more")
    rows = []
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "cutouts", Path(folder) / "out"
            draw_cutouts(source, count)
            runs = {}
            for name in ("first", "again"):
                command = [sys.executable, __file__, "--one", str(source), str(out)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                runs[name] = json.loads(done.stdout)
            rows.append({"count": count, **runs})
            print(rows[-1], flush=True)
    small, large = rows[0], rows[-1]
    times = large["first"]["total_seconds"] / small["first"]["total_seconds"]
    more = large["count"] - small["count"]
    result = {
        "command": " ".join(["python", "benchmarks/alphalayers.py", *sys.argv[1:]]),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "side": SIDE,
        "exponent_of_time": round(float(np.log(times) / np.log(large["count"] / small["count"])), 3),
        "peak_mib_per_thousand_more": round((large["first"]["peak_mib"] - small["first"]["peak_mib"]) * 1000 / more, 2),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
