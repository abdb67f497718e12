"""Run jobs: the model loaded once, small pictures of a size together, failures kept for the end.

A failed picture does not stop the others. What is written is complete; after an interruption the results so far stay.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from PIL import Image

from omnialpha.apps.grouping import Ready, grouped
from omnialpha.apps.jobs import Job
from omnialpha.apps.loading import Model, is_out_of_memory, model_provenance
from omnialpha.apps.settings import Settings
from omnialpha.apps.targets import check_free, plan, write
from omnialpha.errors import OmniAlphaError, OutputError
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.refine import is_reduced, refine

if TYPE_CHECKING:
    from tqdm import tqdm

    from omnialpha.pipeline import OmniAlphaPipeline


@dataclass
class Report:
    """What became of the jobs.

    Attributes:
        results: Per finished job: output, task, inputs, layers, seconds and the provenance's fields.
        failures: Per failed job: input and error.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)


def run(jobs: Sequence[Job], settings: Settings) -> None:
    """Do all jobs, print where the results are, and exit with 1 when some failed.

    Raises:
        InputError: The outputs cannot be planned, or the model is unknown: nothing has been done.
        CheckpointError: The model cannot be loaded.
        KeyboardInterrupt: With a line that says how many results are complete.
        typer.Exit: Code 1, after a report, when some jobs failed.
    """
    targets = plan(jobs, settings)
    report = Report()
    model = Model(settings, steps_shown=len(jobs) == 1)
    show_notes(quiet=settings.json or len(jobs) > 1)
    order = {str(target): k for k, target in enumerate(targets)}
    try:
        with _progress(len(jobs), settings) as bar:
            attempt(zip(jobs, targets, strict=True), model, settings, report, bar)
    except KeyboardInterrupt:
        show(report, settings)
        raise KeyboardInterrupt(f"interrupted; {len(report.results)} of {len(jobs)} results are complete") from None
    report.results.sort(key=lambda result: order[result["output"]])  # groups are done when they are full
    show(report, settings)
    if report.failures:
        raise typer.Exit(1)


def attempt(
    jobs: Iterable[tuple[Job, Path]], model: Model, settings: Settings, report: Report, bar: "tqdm | None" = None
) -> None:
    """Do jobs and note their results and failures.

    Args:
        jobs: Each with its target.
        model: Loaded for the first one that can be read.
        settings: For all of them.
        report: What became of them.
        bar: Told how many are done.
    """
    for group in grouped(_readable(jobs, settings, report), settings):
        _do(group, model, settings, report)
        if bar is not None:
            bar.update(len(report.results) + len(report.failures) - bar.n)


def _readable(jobs: Iterable[tuple[Job, Path]], settings: Settings, report: Report) -> Iterator[Ready]:
    """The jobs whose pictures can be read; the others are noted as failures."""
    for job, target in jobs:
        try:
            check_free(target, overwrite=settings.overwrite)
            yield Ready(job=job, target=target, pictures=[rgba.read(path) for path in job.images])
        except (OmniAlphaError, OSError, MemoryError) as error:
            report.failures.append({"input": job.name, "error": _line(error, job)})


def _do(group: list[Ready], model: Model, settings: Settings, report: Report) -> None:
    """Do the jobs of a group in one call; when that fails, each alone, for only one of them may be at fault."""
    pipe, model_hash = model.get()  # not these pictures' fault when it fails: it ends the run
    start = time.perf_counter()
    try:
        stacks = _call(group, pipe, settings)
    except Exception as error:
        if not _is_expected(error):
            raise
        if len(group) > 1:
            for member in group:
                _do([member], model, settings, report)
            return
        report.failures.append({"input": group[0].job.name, "error": _line(error, group[0].job)})
        return
    share = (time.perf_counter() - start) / len(group)
    for member, stack in zip(group, stacks, strict=True):
        _finish(member, stack, share, pipe, model_hash, settings, report)


def _call(group: list[Ready], pipe: "OmniAlphaPipeline", settings: Settings) -> list[LayerStack]:
    """One call for jobs that agree in their task and sizes. Each has the same noise as alone."""
    import torch

    job = group[0].job
    output: Any = pipe(
        task=job.task.id,
        images=[member.pictures for member in group] if job.images else None,
        text=None if job.text is None else [str(member.job.text) for member in group],
        num_targets=job.num_targets,
        generator=[torch.Generator("cpu").manual_seed(settings.seed) for _ in group],
        num_inference_steps=settings.steps,
        true_cfg_scale=settings.guidance,
        guidance_interval=settings.guidance_interval,
        step_cache=settings.step_cache,
        height=settings.height,
        width=settings.width,
    )
    return output.stacks


def _finish(
    member: Ready,
    stack: LayerStack,
    seconds: float,
    pipe: "OmniAlphaPipeline",
    model_hash: str,
    settings: Settings,
    report: Report,
) -> None:
    """Refine and write one result."""
    job, start = member.job, time.perf_counter()
    try:
        stack = refined(stack, job.task.id, member.pictures, settings.refine, residual=settings.residual)
        seconds = round(seconds + time.perf_counter() - start, 2)
        provenance = dict(stack.metadata or {}) | {"seed": settings.seed}
        provenance |= _provenance(job, settings, pipe, model_hash, stack.size)
        write(stack, member.target, provenance, overwrite=settings.overwrite)
    except Exception as error:
        if not _is_expected(error):
            raise
        report.failures.append({"input": job.name, "error": _line(error, job)})
        return
    report.results.append(
        {"output": str(member.target), "layers": [layer.name for layer in stack], "seconds": seconds} | provenance
    )


def refined(
    stack: LayerStack, task: str, pictures: list[Image.Image], wanted: bool | None, *, residual: bool = False
) -> LayerStack:
    """The stack at the input's resolution where that is asked for or worth it; a size in the call asks for another one.

    Args:
        stack: What the pipeline returned.
        task: Id of its task.
        pictures: The task's input pictures.
        wanted: Whether to refine; None: where the model worked at a visibly smaller size.
        residual: Add the layer that makes a decomposition exact.
    """
    if not (is_reduced(stack) if wanted is None else wanted) and not residual:
        return stack
    fitted = [picture if picture.size == stack.size else picture.resize(stack.size) for picture in pictures]
    return refine(task, fitted, stack, residual=residual)


def _provenance(
    job: Job, settings: Settings, pipe: "OmniAlphaPipeline", model_hash: str, size: tuple[int, int]
) -> dict[str, Any]:
    """What, beside the pipeline's own record, makes a result reproducible. No time stamp: same input, same bytes."""
    dpi = rgba.read_dpi(job.images[0]) if job.images else None
    return ({} if dpi is None else {"dpi": list(dpi)}) | {
        "inputs": [path.name for path in job.images],
        "num_targets": job.task.num_targets(job.num_targets),
        "size": list(size),
        **model_provenance(pipe, settings.model, settings.adapter, model_hash),
    }


def _progress(count: int, settings: Settings) -> "tqdm":
    """A bar on a terminal when there are several jobs."""
    from tqdm import tqdm

    hidden = True if count == 1 or settings.json else None  # None: where there is no terminal
    return tqdm(total=count, unit="image", disable=hidden, file=sys.stderr)


def show(report: Report, settings: Settings) -> None:
    """Tell what was done: JSON or a line per result on stdout, failures on stderr."""
    if settings.json:
        typer.echo(json.dumps({"results": report.results, "failures": report.failures}, indent=2, ensure_ascii=False))
        return
    for result in report.results:
        typer.echo(f"{result['output']}  ({', '.join(result['layers'])}; {result['seconds']} s)")
    for failure in report.failures:
        typer.echo(f"error: {failure['error']}", err=True)
    if report.failures and len(report.failures) + len(report.results) > 1:
        typer.echo(f"{len(report.results)} done, {len(report.failures)} failed", err=True)


def show_notes(*, quiet: bool) -> None:
    """Show what the library logs (a size or an orientation that was changed) on stderr, warnings only in a batch."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("omnialpha").setLevel(logging.WARNING if quiet else logging.INFO)


def _line(error: BaseException, job: Job) -> str:
    """One line about an error that names the file."""
    if is_out_of_memory(error):
        return f"{job.name}: not enough memory; make it smaller with --size, or try --dtype bfloat16"
    message = " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error, OutputError) or any(str(path) in message for path in job.images)
    return message if named else f"{job.name}: {message}"


def _is_expected(error: Exception) -> bool:
    """Whether an error is about a picture, a disk or memory, and not about the program."""
    return isinstance(error, OmniAlphaError | OSError) or is_out_of_memory(error)
