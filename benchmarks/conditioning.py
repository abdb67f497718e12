"""What is read of a call's words and pictures, and how long it takes, ours and stock; writes conditioning.json.

    python benchmarks/conditioning.py [--rounds 3]

The embedded checkpoint at 256², guidance 4, 2 steps, on the CPU. Counted: pictures that the vision tower sees, tokens
that the language model reads, frames that the VAE encodes. Timed: processor seconds of VLM and VAE encoder. The rival
is the stock pipeline (`rival.py`), which knows samples of a prompt, but takes one prompt a call. Prompt embeddings of
both sides must agree within 1e-4, or nothing is written. The table in docs/performance.md is written, too.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from model_20b import picture
from page import write_table
from rival import Rival, _areas, _several_targets, load_rival
from stopwatch import processor_clock, timed_pieces

import omnialpha
from omnialpha.hub import locate
from omnialpha.imaging.files import atomic_write
from omnialpha.pipeline import OmniAlphaPipeline

RESULT = Path(__file__).with_suffix(".json")
SIDE = 256
TOLERANCE = 1e-4
PROMPTS = [f"cut out the {thing}" for thing in ("kite", "cat on the left", "chair", "glass of water")]
CALL: dict[str, Any] = {"true_cfg_scale": 4.0, "num_inference_steps": 2, "height": SIDE, "width": SIDE}


def ours(pipe: OmniAlphaPipeline) -> dict[str, Callable[[], Any]]:
    """Each case as a call of our pipeline."""
    call = {**CALL, "images": [picture(SIDE)], "seed": 0, "output_type": "latent"}
    return {
        "one prompt, one picture": lambda: pipe(prompt=PROMPTS[0], **call),
        "four samples of them": lambda: pipe(prompt=PROMPTS[0], num_images_per_prompt=4, **call),
        "four prompts, one picture": lambda: pipe(prompt=PROMPTS, **call),
    }


def stock(rival: Rival) -> dict[str, Callable[[], Any]]:
    """The same cases as calls of the stock pipeline."""

    def call(*prompts: str, **options: Any) -> None:
        with _several_targets(rival.pipe, 1), _areas(SIDE * SIDE, rival.profile.vlm_area):
            for prompt in prompts:
                rival.pipe([picture(SIDE)], prompt, negative_prompt="", output_type="latent", **CALL, **options)

    return {
        "one prompt, one picture": lambda: call(PROMPTS[0]),
        "four samples of them": lambda: call(PROMPTS[0], num_images_per_prompt=4),
        "four prompts, one picture": lambda: call(*PROMPTS),
    }


@contextmanager
def counted(pipe: Any) -> Iterator[Counter[str]]:
    """What is read inside the block."""
    counts: Counter[str] = Counter()
    vlm, encode = pipe.text_encoder.model, pipe.vae.encode

    def see(module: Any, args: Any, kwargs: Any) -> None:
        counts["pictures_seen"] += len(kwargs["grid_thw"])

    def read(module: Any, args: Any, kwargs: Any) -> None:
        counts["tokens_read"] += kwargs["inputs_embeds"].shape[:2].numel()

    def frames(x_BCTHW: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        counts["frames_encoded"] += len(x_BCTHW)
        return encode(x_BCTHW, *args, **kwargs)

    with ExitStack() as stack:
        stack.callback(vlm.visual.register_forward_pre_hook(see, with_kwargs=True).remove)
        stack.callback(vlm.language_model.register_forward_pre_hook(read, with_kwargs=True).remove)
        stack.enter_context(mock.patch.object(pipe.vae, "encode", frames))
        yield counts


def largest_difference(pipe: OmniAlphaPipeline, rival: Rival) -> float:
    """Between the prompt embeddings that both sides give their transformers at the first step."""
    received = []
    for side, call in ((pipe, ours(pipe)), (rival.pipe, stock(rival))):
        seen: list[torch.Tensor] = []
        hook = side.text_encoder.model.language_model.register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(output.last_hidden_state[0])
        )
        call["one prompt, one picture"]()
        hook.remove()
        received.append(seen[0])
    length = min(map(len, received))
    return float((received[0][:length] - received[1][:length]).abs().max())


def measure(pipe: Any, call: Callable[[], Any]) -> dict[str, float]:
    """Counts and processor seconds of one case."""
    with counted(pipe) as counts:
        call()
    with timed_pieces(pipe, processor_clock) as spans:
        call()
    taken = spans.seconds()
    return {**counts, "processor_seconds": taken["vlm"] + taken["encode"]}


def table(cases: dict[str, Any]) -> list[list[str]]:
    """The cases for docs/performance.md."""
    what = {"pictures_seen": "pictures seen", "tokens_read": "tokens read", "frames_encoded": "frames encoded"}
    rows = [["", *(f"{name}: ours / stock" for name in what.values()), "times faster"]]
    for name, sides in cases.items():
        ours, stock = sides["ours"], sides["stock"]
        faster = stock["processor_seconds"] / ours["processor_seconds"]
        rows.append([name, *(f"{ours[key]} / {stock[key]}" for key in what), f"{faster:.1f}"])
    return rows


def main() -> None:
    """Run all cases in turns and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    pipe = omnialpha.load("nano", device="cpu", dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    rival = load_rival(locate("nano", None)[0], pipe.profile)
    apart = largest_difference(pipe, rival)
    if apart > TOLERANCE:
        sys.exit(f"the prompt embeddings are {apart:.2e} apart; nothing is written")
    sides = {"stock": (rival.pipe, stock(rival)), "ours": (pipe, ours(pipe))}
    cases = {}
    for name in ours(pipe):
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (model, calls) in sides.items():
                found[side].append(measure(model, calls[name]))
        cases[name] = {
            side: runs[0] | {"processor_seconds": round(statistics.median(run["processor_seconds"] for run in runs), 3)}
            for side, runs in found.items()
        }
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "side": SIDE,
        "cases": cases,
        "largest_difference_of_embeddings": float(f"{apart:.1e}"),
    }
    with atomic_write(RESULT, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    write_table(RESULT.stem, table(cases))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
