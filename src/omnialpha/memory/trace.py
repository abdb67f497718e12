"""A call, and what it takes beside the weights: the pipeline's own code run on shapes, stage by stage."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.memory.architecture import Architecture, few
from omnialpha.memory.shapes import Meter, Shapes
from omnialpha.models import denoiser, strips
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import SEVERAL, task

TEXT_ENCODER, VISION, VAE_ENCODER, TRANSFORMER, VAE_DECODER = (
    "text_encoder",
    "vision",  # the part of the text encoder that looks at pictures
    "vae_encoder",
    "transformer",
    "vae_decoder",
)
"""Stages of a call."""

BETWEEN = "between steps"  # what the loop holds, of which the decoder finds the most

STEPS = 2  # that run on shapes; the others are like the last of them


@dataclass(frozen=True, kw_only=True)
class Work:
    """A call.

    Attributes:
        task: id of a task.
        size: width and height of pictures and results; None: as large as the checkpoint works.
        targets: m; None: the task's smallest number.
        inputs: n; None: the task's smallest number.
        steps: sampling steps; None: the checkpoint's.
        guidance: true CFG scale; None: the checkpoint's.
        samples: how many at once.
    """

    task: str = "decomposition_auto"
    size: tuple[int, int] | None = None
    targets: int | None = None
    inputs: int | None = None
    steps: int | None = None
    guidance: float | None = None
    samples: int = 1


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a call takes beside the weights.

    Attributes:
        peaks: stage → most bytes of all tensors at once, without the weights.
        flops: stage → floating-point operations.
        passes: how often the transformer runs.
    """

    peaks: Mapping[str, int]
    flops: Mapping[str, float]
    passes: int


def trace(
    architecture: Architecture, pipes: tuple[OmniAlphaPipeline, OmniAlphaPipeline], work: Work, kind: str
) -> tuple[Trace, Trace]:
    """Run a call on shapes, with few blocks and with one more, and go on from there: each takes as much as the next.

    Args:
        architecture: of the checkpoint.
        pipes: made by `Architecture.on_meta` with no more blocks and with one more.
        work: the call.
        kind: of the device that is meant: "cpu" or "cuda".

    Returns:
        The trace with the branches of guidance one after the other, and that with both as one batch, which the loop
        chooses where there is room; the same without guidance.

    Raises:
        InputError: the call is wrong.
    """
    small, large = pipes
    steps = work.steps or architecture.profile.task_steps.get(work.task, architecture.profile.steps)
    decoded = _run(small, work, steps, kind)
    apart = _whole(architecture, steps, decoded, decoded, _run(large, work, steps, kind, decode=False))
    if apart.passes == steps:
        return apart, apart
    pair = [_run(pipe, work, steps, kind, one_batch=True, decode=False) for pipe in pipes]
    return apart, _whole(architecture, steps, decoded, *pair)


def _whole(architecture: Architecture, steps: int, decoded: Trace, small: Trace, large: Trace) -> Trace:
    """The trace of the whole model, from two small ones; the decoder works once, beside what the loop leaves."""
    depths = {VISION: architecture.vision_depth, TEXT_ENCODER: architecture.text_depth}

    def grown(small: Mapping[str, float], large: Mapping[str, float]) -> dict[str, float]:
        depth = {stage: depths.get(stage, architecture.depth) for stage in large}
        return {s: small[s] + (depth[s] - few(depth[s])) * (large[s] - small[s]) for s in large}

    peaks = grown(small.peaks, large.peaks)
    peaks[VAE_DECODER] = decoded.peaks[VAE_DECODER] + peaks.pop(BETWEEN) - decoded.peaks[BETWEEN]
    return Trace(
        peaks={stage: int(peak) for stage, peak in peaks.items()},
        flops={VAE_DECODER: decoded.flops[VAE_DECODER], **grown(small.flops, large.flops)},
        passes=small.passes * steps // min(STEPS, steps),
    )


def _run(
    pipe: OmniAlphaPipeline, work: Work, steps: int, kind: str, *, one_batch: bool = False, decode: bool = True
) -> Trace:
    """One call on shapes, which ends after a few steps; its operations are those of all of them."""
    models = (pipe.text_encoder, pipe.transformer, pipe.vae)
    meter = Meter(tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
    meter.enter(TEXT_ENCODER)
    passes, done = 0, []

    def transformer_enters(*_: Any) -> None:
        nonlocal passes
        passes += 1
        meter.enter(TRANSFORMER)

    def step_ends(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        done.append(meter.flops[TRANSFORMER])
        pipe._interrupt = len(done) == STEPS
        meter.enter(BETWEEN)
        return {}

    def booked(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            meter.enter(stage)
            return method(*args, **kwargs)

        return call

    visual = pipe.text_encoder.model.visual
    hooks = [
        pipe.transformer.register_forward_pre_hook(transformer_enters),
        visual.register_forward_pre_hook(lambda *_: meter.enter(VISION)),
        visual.register_forward_hook(lambda *_: meter.enter(TEXT_ENCODER)),
    ]
    replaced = {
        (pipe.vae, "encode"): booked(pipe.vae.encode, VAE_ENCODER),
        (pipe.vae, "decode"): booked(pipe.vae.decode, VAE_DECODER),
        (denoiser, "one_batch_fits"): lambda *_: one_batch,
        (strips, "STRIP_BYTES"): strips.STRIP_BYTES | {"meta": strips.STRIP_BYTES[kind]},
    }
    found = task(work.task)
    with torch.no_grad(), _replaced(replaced), Shapes(meter), meter:
        pipe(
            task=found.id,
            text=["a description of what there is to see"] * work.samples if found.text else None,
            images=[_pictures(pipe, work)] * work.samples,
            num_targets=work.targets,
            height=work.size and work.size[1],
            width=work.size and work.size[0],
            num_inference_steps=work.steps,
            true_cfg_scale=work.guidance,
            seed=0,
            output_type="pt" if decode else "latent",
            callback_on_step_end=step_ends,
        )
    for hook in hooks:
        hook.remove()
    flops = {stage: meter.flops[stage] for stage in meter.peaks if stage != BETWEEN}
    flops[TRANSFORMER] += (steps - len(done)) * (done[-1] - done[-2] if len(done) > 1 else 0)
    return Trace(peaks=dict(meter.peaks), flops=flops, passes=passes)


@contextmanager
def _replaced(values: Mapping[tuple[object, str], Any]) -> Iterator[None]:
    """Give attributes other values for a while: what depends on a device, which the meta device is not."""
    before = {key: getattr(*key) for key in values}
    try:
        for key, value in values.items():
            setattr(*key, value)
        yield
    finally:
        for key, value in before.items():
            setattr(*key, value)


def _pictures(pipe: OmniAlphaPipeline, work: Work) -> list[Image.Image]:
    """Input pictures of the right number and size, half black and half white: a guide may be neither."""
    found = task(work.task)
    n = len(found.inputs) if work.inputs is None else work.inputs
    if work.inputs is not None and SEVERAL not in found.inputs and n != len(found.inputs):
        raise InputError(f"{found.id} takes exactly {len(found.inputs)} pictures, received inputs={n}")
    side = int((pipe.profile.max_area or pipe.profile.max_total_area or 1024 * 1024) ** 0.5)
    width, height = work.size or (side, side)
    picture = Image.new("RGBA", (width, height), "white")
    picture.paste((0, 0, 0, 255), (0, 0, max(1, width // 2), height))
    return [picture] * n
