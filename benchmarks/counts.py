"""What calls cost in things that no machine changes: operations, calls of the models, bytes opened; writes counts.json.

    python benchmarks/counts.py

The file is the baseline of `tests/benchmarks/test_counts.py`, which fails when anything grows: record again when a
count went down, or up for a reason. Operations are those that torch's counter knows (matrix products, convolutions,
attention), inside the VLM, the VAE's encoder and decoder and the transformer; calls are counted by hooks on the same
modules. Bytes are the sizes of the files that loading opens, once per opening, as the kernel reports them (Linux).
"""

import ctypes
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from flops import counter
from model_20b import TINY, components, our_pipeline, picture
from stopwatch import Clock, timed_pieces

import omnialpha
from omnialpha.hub import EMBEDDED
from omnialpha.imaging.files import atomic_write
from omnialpha.pipeline import OmniAlphaPipeline

RESULT = Path(__file__).with_suffix(".json")
CPU = torch.device("cpu")
IN_OPEN, IN_CLOSE_NOWRITE, IN_ISDIR = 0x20, 0x10, 0x4000_0000
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows

Counts = dict[str, int]


def call_counts(pipe: OmniAlphaPipeline, **call: Any) -> Counts:
    """Operations and calls of each part of a pipeline during one call of it."""
    seen: list[object] = []
    visual = pipe.text_encoder.model.visual
    hook = visual.register_forward_hook(lambda *_: seen.append(None))
    try:
        with counter() as operations:
            clock = Clock(mark=operations.get_total_flops, between=lambda start, end: end - start)
            with timed_pieces(pipe, clock) as spans:
                pipe(**call)
    finally:
        hook.remove()
    inside = {f"operations: {piece}": int(count) for piece, count in spans.seconds().items()}
    calls = {f"calls: {piece}": len(marks) for piece, marks in spans.marks.items()}
    whole = {"operations: whole call": operations.get_total_flops()}  # of which some lie between the pieces
    return whole | inside | calls | {"calls: vision tower": len(seen)}


def bytes_opened(folder: Path, load: Callable[[], object]) -> int:
    """Sizes of the files below a folder that are opened while `load` runs, once per opening.

    The kernel is asked (inotify): the weights' readers are written in Rust and map their files, so neither Python nor
    the process's counters see them.
    """
    libc = ctypes.CDLL(None)
    queue = libc.inotify_init1(os.O_NONBLOCK)
    assert queue >= 0, "this system has no inotify"
    try:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        # Closings keep two openings apart, which would otherwise be reported as one.
        watched = {
            libc.inotify_add_watch(queue, os.fsencode(path), IN_OPEN | IN_CLOSE_NOWRITE): path for path in folders
        }
        load()
        events = os.read(queue, 1 << 20)
    finally:
        os.close(queue)
    total = position = 0
    while position < len(events):
        watch, mask, _, length = EVENT.unpack_from(events, position)
        position += EVENT.size + length
        if mask & IN_OPEN and not mask & IN_ISDIR:
            name = events[position - length : position].rstrip(b"\0")
            total += (watched[watch] / os.fsdecode(name)).stat().st_size
    return total


def all_counts() -> dict[str, Counts]:
    """Every case of the baseline."""
    small = {"height": 64, "width": 64, "num_inference_steps": 3, "seed": 0}
    one, other = picture(64), picture(64).rotate(90)
    found: dict[str, Counts] = {}
    pipe = our_pipeline(components(TINY, CPU, torch.float32))
    decompose: dict[str, Any] = {"task": "decomposition_auto", "true_cfg_scale": 4.0} | small
    found["tiny: decomposition, guided"] = call_counts(pipe, images=[one], **decompose)
    found["tiny: the next picture"] = call_counts(pipe, images=[other], **decompose)
    found["tiny: two pictures at once"] = call_counts(pipe, images=[[one], [other]], **decompose)
    words = {"task": "text_to_image", "text": "a kite", "true_cfg_scale": 1.0} | small
    found["tiny: text to image"] = call_counts(pipe, **words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "nano"  # a copy of its own: whoever else reads the package must not be counted
        shutil.copytree(EMBEDDED / "nano", folder)
        found["nano: loading"] = {"bytes opened": bytes_opened(folder, lambda: omnialpha.load(folder, device=CPU))}
        nano = omnialpha.load(folder, device=CPU)
    nano.set_progress_bar_config(disable=True)
    found["nano: decomposition, guided"] = call_counts(nano, images=[one], **decompose)
    return found


def changes(recorded: Mapping[str, Counts], received: Mapping[str, Counts]) -> tuple[list[str], list[str]]:
    """What grew and what shrank, a line each; a count that only one side has is among what grew."""
    grown, shrunk = [], []
    for case in sorted(recorded.keys() | received.keys()):
        before, now = recorded.get(case, {}), received.get(case, {})
        for name in sorted(before.keys() | now.keys()):
            line = f"{case}: {name}: {before.get(name, 'not recorded')} → {now.get(name, 'not counted')}"
            if name not in before or name not in now or now[name] > before[name]:
                grown.append(line)
            elif now[name] < before[name]:
                shrunk.append(line)
    return grown, shrunk


def main() -> None:
    with atomic_write(RESULT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(all_counts(), indent=1) + "\n")


if __name__ == "__main__":
    main()
