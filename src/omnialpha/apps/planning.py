"""`omnialpha doctor`: what is here, what fits, and what a call or a training would take before anything is loaded."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnialpha.apps import info
from omnialpha.apps.settings import pixels, with_options
from omnialpha.errors import InputError, nearest

if TYPE_CHECKING:
    from omnialpha.memory.forecast import Forecast

SUBJECTS = ("call", "train")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The call whose memory and time are wanted. Attributes are the options."""

    model: Annotated[str, typer.Option("--model", help='"nano" (embedded), "omnialpha", a folder or a hub id.')] = (
        "omnialpha"
    )
    adapter: Annotated[str | None, typer.Option("--adapter", help="Adapter for the model.")] = None
    task: Annotated[str, typer.Option("--task", help="One of `omnialpha tasks`.")] = "decomposition_auto"
    size: Annotated[
        str | None, typer.Option("--size", help="1024 or 1024x768 (width x height). Default: as the model works.")
    ] = None
    targets: Annotated[int | None, typer.Option("--targets", min=1, help="Layers out. Default: the smallest.")] = None
    inputs: Annotated[int | None, typer.Option("--inputs", min=0, help="Pictures in. Default: the smallest.")] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps. Default: the model's.")] = None
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0.0, help="True CFG scale. Default: the model's.")
    ] = None
    samples: Annotated[int, typer.Option("--samples", min=1, help="Calls at once, as a batch.")] = 1
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, … Default: a GPU if any.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None
    limit: Annotated[
        float | None, typer.Option("--limit", min=0.0, help="GB to stay within. Default: what is free.")
    ] = None


@with_options
def doctor(
    subject: Annotated[
        str, typer.Argument(metavar="[call|train]", help="With --plan: a call, or training the 20B base.")
    ] = "call",
    *,
    plan: Annotated[bool, typer.Option("--plan", help="Memory and time of every way to hold the weights.")] = False,
    planned: Planned,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report versions, device, memory, missing extras, and which checkpoint fits; or plan a call or a training."""
    if subject not in SUBJECTS:
        raise InputError(f'"{subject}" cannot be planned; use {" or ".join(SUBJECTS)}{nearest(subject, SUBJECTS)}')
    if not plan:
        info.show_doctor(as_json=as_json)
    elif subject == "train":
        info.show_memory_plan(as_json=as_json)
    else:
        show_plans(planned, as_json=as_json)


def show_plans(planned: Planned, *, as_json: bool) -> None:
    """Print what every plan takes for a call, the fastest first."""
    import torch

    from omnialpha.checkpoints import choose_device, choose_dtype
    from omnialpha.memory.forecast import Work, forecasts
    from omnialpha.memory.loading import find
    from omnialpha.memory.machine import measure

    device = choose_device(planned.device)
    dtype = choose_dtype(planned.dtype, device)
    work = Work(
        task=planned.task,
        size=None if planned.size is None else pixels(planned.size),
        targets=planned.targets,
        inputs=planned.inputs,
        steps=planned.steps,
        guidance=planned.guidance,
        samples=planned.samples,
    )
    machine = measure(device, (dtype, torch.bfloat16))
    limit = None if planned.limit is None else planned.limit * 1e9
    found = forecasts(find(planned.model, planned.adapter), work, machine, dtype=dtype, limit=limit)
    if as_json:
        report = {"model": planned.model, "device": machine.name, "free_gb": round(found[0].free / 1e9, 2)}
        typer.echo(json.dumps(report | {"plans": [_row(forecast) for forecast in found]}, indent=2))
        return
    rows = [[f.plan.name, f"{f.peak / 1e9:.2f}", f"{f.seconds:.3g}", _verdict(f)] for f in found]
    info.print_table(["PLAN", "GB", "SECONDS", ""], rows)
    typer.echo(
        f"{machine.name}, {found[0].free / 1e9:.1f} GB free. GB: all tensors on the device at the worst moment; what "
        "Python and its libraries take comes on top. Seconds: an estimate from operations and the speed of a matrix "
        "product."
    )


def _row(forecast: "Forecast") -> dict[str, Any]:
    from omnialpha.memory.apply import installed

    return {
        "plan": forecast.plan.name,
        "gb": round(forecast.peak / 1e9, 3),
        "stages_gb": {stage: round(peak / 1e9, 3) for stage, peak in forecast.stages.items()},
        "seconds": float(f"{forecast.seconds:.3g}"),
        "fits": forecast.fits,
        "installed": installed(forecast.plan),
    }


def _verdict(forecast: "Forecast") -> str:
    from omnialpha.memory.apply import EXTRA, installed

    if not forecast.fits:
        return "does not fit"
    return "fits" if installed(forecast.plan) else f"fits; pip install 'omnialpha[{EXTRA}]'"
