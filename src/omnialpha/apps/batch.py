"""Run jobs: the model loaded once, one job after the other, failures kept for the end.

A failed picture does not stop the others. What is written is complete; after an interruption the results so far stay.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from PIL import Image

from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings
from omnialpha.apps.targets import check_free, plan, write
from omnialpha.errors import CheckpointError, OmniAlphaError, OutputError
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.refine import is_reduced, refine

if TYPE_CHECKING:
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
    try:
        for job, target in _progress(list(zip(jobs, targets, strict=True)), settings):
            attempt(job, target, model, settings, report)
    except KeyboardInterrupt:
        show(report, settings)
        raise KeyboardInterrupt(f"interrupted; {len(report.results)} of {len(jobs)} results are complete") from None
    show(report, settings)
    if report.failures:
        raise typer.Exit(1)


class Model:
    """The pipeline, loaded when the first readable picture needs it.

    Args:
        settings: Which model, where.
        steps_shown: Show the sampling steps as a progress bar.
    """

    def __init__(self, settings: Settings, *, steps_shown: bool) -> None:
        self._settings = settings
        self._steps_shown = steps_shown and not settings.json and sys.stderr.isatty()
        self._loaded: tuple[OmniAlphaPipeline, str] | None = None

    def get(self) -> "tuple[OmniAlphaPipeline, str]":
        """Return the pipeline and the fingerprint of its weights."""
        if self._loaded is None:
            import omnialpha
            from omnialpha.checkpoints import fingerprint

            s = self._settings
            quieten_dependencies()
            try:
                pipe = omnialpha.load(s.model, adapter=s.adapter, few_step=s.few_step, device=s.device, dtype=s.dtype)
            except Exception as error:
                if is_out_of_memory(error):
                    raise CheckpointError(
                        f'not enough memory to load "{s.model}"; see `omnialpha doctor`, '
                        "try --dtype bfloat16 or --model nano"
                    ) from error
                raise
            pipe.set_progress_bar_config(disable=not self._steps_shown, leave=False)
            self._loaded = pipe, fingerprint(pipe)
        return self._loaded


def attempt(job: Job, target: Path, model: Model, settings: Settings, report: Report) -> None:
    """Do one job and note its result or its failure."""
    try:
        check_free(target, overwrite=settings.overwrite)
        pictures = [rgba.read(path) for path in job.images]
    except (OmniAlphaError, OSError, MemoryError) as error:
        report.failures.append({"input": job.name, "error": _line(error, job)})
        return
    pipe, model_hash = model.get()  # not this picture's fault when it fails: it ends the run
    start = time.perf_counter()
    try:
        output: Any = pipe(
            task=job.task.id,
            images=pictures,
            text=job.text,
            num_targets=job.num_targets,
            seed=settings.seed,
            num_inference_steps=settings.steps,
            true_cfg_scale=settings.guidance,
            step_cache=settings.step_cache,
            height=settings.height,
            width=settings.width,
        )
        stack = refined(output.stacks[0], job.task.id, pictures, settings.refine, residual=settings.residual)
        seconds = round(time.perf_counter() - start, 2)
        provenance = dict(stack.metadata or {}) | _provenance(job, settings, pipe, model_hash, stack.size)
        write(stack, target, provenance, overwrite=settings.overwrite)
    except Exception as error:
        if not isinstance(error, OmniAlphaError | OSError) and not is_out_of_memory(error):
            raise
        report.failures.append({"input": job.name, "error": _line(error, job)})
        return
    report.results.append(
        {"output": str(target), "layers": [layer.name for layer in stack], "seconds": seconds} | provenance
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


def model_provenance(pipe: "OmniAlphaPipeline", model: str, adapter: str | None, model_hash: str) -> dict[str, Any]:
    """What is stored with every result about the model that made it.

    Args:
        pipe: The loaded model.
        model: What it was loaded as.
        adapter: What adapter it was loaded with.
        model_hash: Fingerprint of its weights.

    Returns:
        JSON values.
    """
    from omnialpha import __version__

    return {
        "model": model,
        "adapter": adapter,
        "model_hash": model_hash,
        "device": pipe.device.type,
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
        "version": __version__,
    }


def _progress(pairs: list[tuple[Job, Path]], settings: Settings) -> Any:
    """The pairs, with a bar on a terminal when there are several."""
    if len(pairs) == 1 or settings.json:
        return pairs
    from tqdm import tqdm

    return tqdm(pairs, unit="image", disable=None, file=sys.stderr)  # None: off where there is no terminal


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


def quieten_dependencies() -> None:
    """Keep the libraries below to errors: their hints and bars are about their insides, not about the user's job."""
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    downloads_shown = not are_progress_bars_disabled()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    if downloads_shown:  # transformers turns these off with its own
        enable_progress_bars()


def _line(error: BaseException, job: Job) -> str:
    """One line about an error that names the file."""
    if is_out_of_memory(error):
        return f"{job.name}: not enough memory; make it smaller with --size, or try --dtype bfloat16"
    message = " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error, OutputError) or any(str(path) in message for path in job.images)
    return message if named else f"{job.name}: {message}"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell running out of memory from other errors: torch says it in a RuntimeError, differently per device."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
