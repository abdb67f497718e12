"""Peak memory and time of a call before anything is loaded, for each plan; and the fastest plan that fits.

Memory: the pipeline's own code runs on shapes (`shapes`), which gives the bytes of all tensors at each stage; the
weights that the plan has on the device at that stage are added. Time: the operations counted on the way over the
measured speed of a matrix product, and the bytes that the plan moves over the measured speed of a copy. It is an
estimate, good for comparing plans: no model runs at the speed of a large matrix product.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from omnialpha.errors import InputError
from omnialpha.memory.architecture import Architecture
from omnialpha.memory.machine import DISK, Machine
from omnialpha.memory.plans import Plan, candidates
from omnialpha.memory.trace import TRANSFORMER, Trace, Work, trace
from omnialpha.memory.weights import PipelineWeights, pipeline_weights

ROOM = 1.1
"""A plan fits where there is this much room for its peak: the forecast is good to a tenth."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a plan takes.

    Attributes:
        plan: the plan.
        stages: stage → peak in bytes on the device, weights and all.
        seconds: of the call, an estimate.
        free: bytes that the device has.
    """

    plan: Plan
    stages: Mapping[str, int]
    seconds: float
    free: int

    @property
    def peak(self) -> int:
        """Bytes on the device at the worst moment."""
        return max(self.stages.values())

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return ROOM * self.peak <= self.free


def forecasts(
    architecture: Architecture,
    work: Work,
    machine: Machine,
    *,
    dtype: torch.dtype,
    plans: Sequence[Plan] | None = None,
    limit: float | None = None,
) -> list[Forecast]:
    """What each plan takes, the fastest first.

    Args:
        architecture: of the checkpoint.
        work: the call.
        machine: the device, measured for ``dtype`` and bfloat16.
        dtype: in which models compute, unless the plan says another.
        plans: to compare; default: all that the device can carry out.
        limit: bytes to stay within instead of what is free.

    Raises:
        InputError: the call is wrong.
    """
    groups = _groups(architecture, work, machine, dtype, plans, limit)
    return sorted((forecast for _, group in groups for forecast in group), key=lambda forecast: forecast.seconds)


def _groups(
    architecture: Architecture,
    work: Work,
    machine: Machine,
    dtype: torch.dtype,
    plans: Sequence[Plan] | None,
    limit: float | None,
) -> Iterator[tuple[float, list[Forecast]]]:
    """The forecasts of the plans that compute in one dtype, in the fastest first, and the least that the next can take.

    A generator, because most of the work is to run the call on shapes, once for each dtype.
    """
    plans = candidates(machine.kind) if plans is None else plans
    free = machine.free if limit is None else int(limit)
    kinds = sorted({computes_in(plan, dtype) for plan in plans}, key=lambda kind: -machine.speeds[kind])
    weights = None
    for kind, following in zip(kinds, [*kinds[1:], None], strict=True):
        pipes = architecture.on_meta(kind, more=0), architecture.on_meta(kind, more=1)
        traces = trace(architecture, pipes, work, machine.kind)
        weights = weights or pipeline_weights(architecture, *pipes)
        found = []
        for plan in plans:
            if computes_in(plan, dtype) != kind:
                continue
            resident = partial(weights.resident, plan, kind, kind=machine.kind)
            seen = _chosen(*traces, free - resident(TRANSFORMER))
            stages = {stage: peak + resident(stage) for stage, peak in seen.peaks.items()}
            seconds = _seconds(weights, seen, plan, kind, machine)
            found.append(Forecast(plan=plan, stages=stages, seconds=seconds, free=free))
        operations = min(sum(seen.flops.values()) for seen in traces)
        yield math.inf if following is None else operations / machine.speeds[following], found


def choose(
    architecture: Architecture,
    work: Work,
    machine: Machine,
    *,
    dtype: torch.dtype,
    plans: Sequence[Plan] | None = None,
    limit: float | None = None,
) -> Forecast:
    """The fastest plan that fits; arguments as for `forecasts`.

    Raises:
        InputError: none fits; the message has the numbers.
    """
    found: list[Forecast] = []
    for least_seconds, group in _groups(architecture, work, machine, dtype, plans, limit):
        found += group
        fitting = [forecast for forecast in found if forecast.fits and forecast.seconds <= least_seconds]
        if fitting:
            return min(fitting, key=lambda forecast: forecast.seconds)
    least = min(found, key=lambda forecast: forecast.peak)
    raise InputError(
        f'"{architecture.name}" needs {ROOM * least.peak / 1e9:.1f} GB for {work.task} even as {least.plan.name}, '
        f"{least.free / 1e9:.1f} GB are free; ask for a smaller size or fewer layers, or free memory "
        "(omnialpha doctor --plan shows all plans)"
    )


def computes_in(plan: Plan, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a plan computes, where the call says another one."""
    return torch.bfloat16 if plan.storage == "bf16" else dtype


def _chosen(apart: Trace, together: Trace, free: int) -> Trace:
    """Which way the loop goes: both branches of guidance at once where the second takes half of the rest, or less."""
    return together if 2 * (together.peaks[TRANSFORMER] - apart.peaks[TRANSFORMER]) <= free else apart


def _seconds(weights: PipelineWeights, trace: Trace, plan: Plan, dtype: torch.dtype, machine: Machine) -> float:
    """Operations at the speed of a matrix product, then bytes unpacked and bytes fetched at the speed of a copy."""
    encoder, transformer, _ = weights.bytes(plan, dtype)
    plain = weights.transformer.total * dtype.itemsize
    unpacking = 0
    if plan.storage.endswith("_layerwise"):  # there and back
        unpacking = 2 * (transformer + plain)
    elif plan.storage not in ("full", "bf16"):  # written, and read by the product
        unpacking = transformer + 2 * plain
    seconds = sum(trace.flops.values()) / machine.speeds[dtype] + trace.passes * unpacking / machine.copying
    match plan.offload:
        case "model_offload":  # there and back
            seconds += 2 * (encoder + transformer) / machine.fetching
        case "free_text_encoder":
            seconds += (encoder + transformer) / DISK
        case "group_offload":
            fetching = (encoder + trace.passes * transformer) / machine.fetching
            seconds = seconds + fetching if machine.kind == "cpu" else max(seconds, fetching)
    return seconds
