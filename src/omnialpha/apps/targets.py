"""Where results go, and how they are written with their provenance.

`plan` turns `--output` and `--format` into one path per job before anything is computed; `write` saves a stack there.
A picture of one layer carries its provenance; a layered file has it in a JSON beside it as well.
"""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings
from omnialpha.errors import InputError, OutputError, nearest
from omnialpha.formats import SUFFIXES
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.layers import LayerStack

FIELDS = ("stem", "task", "seed")
PICTURES = (".png", ".webp", ".avif")
"""Suffixes of files that hold one layer and carry their provenance themselves."""
ANIMATION = ".gif"
"""Suffix of the file that shows several layers coming apart."""


def plan(jobs: Sequence[Job], settings: Settings) -> list[Path]:
    """Choose the file (or folder of PNGs) of each job.

    Args:
        jobs: What will be done.
        settings: `output`, `format` and `seed` of it.

    Returns:
        One path per job. A path without suffix is a folder of PNGs.

    Raises:
        InputError: An unknown suffix or field, a format that cannot hold the layers, or one path for two jobs.
    """
    targets = [_target(job, settings) for job in jobs]
    first: dict[Path, Job] = {}
    for job, target in zip(jobs, targets, strict=True):
        if target in first:
            raise InputError(
                f"{first[target].name} and {job.name} would both be written to {target}; "
                "use a folder or a template with {stem}, and different names"
            )
        first[target] = job
    return targets


def check_free(target: Path, *, overwrite: bool) -> None:
    """Refuse an existing target before time is spent on its content.

    Raises:
        OutputError: It exists and may not be replaced.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists already; choose another name or pass --overwrite")


def write(stack: LayerStack, target: Path, provenance: dict[str, Any], *, overwrite: bool) -> None:
    """Write a result with its provenance; each file appears whole or not at all.

    Args:
        stack: Layers, back to front.
        target: From `plan`.
        provenance: JSON values.
        overwrite: Replace an existing target.

    Raises:
        OutputError: It cannot be written.
    """
    stack.metadata = provenance
    stack.save(target, overwrite=overwrite)
    if target.suffix and target.suffix.lower() not in PICTURES:  # a folder of PNGs has its own manifest
        with atomic_write(target.with_name(f"{target.name}.json"), overwrite=True) as temporary:
            temporary.write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _target(job: Job, settings: Settings) -> Path:
    """The path of one job."""
    count = job.task.num_targets(job.num_targets)
    output = settings.output
    if output is None:
        output = "{stem}_{task}"
    elif "{" not in output and (output.endswith("/") or Path(output).is_dir() or not Path(output).suffix):
        # Checked before the fields are filled in: a folder may have any name.
        return Path(output) / _named("{stem}_{task}", job, settings, _suffix(job, count, settings.format))
    suffix = Path(output).suffix.lower()
    if not suffix or "}" in suffix:
        return _named(output, job, settings, _suffix(job, count, settings.format))
    if suffix not in SUFFIXES:
        raise InputError(
            f'{output}: cannot write "{suffix}"; use {", ".join(filter(None, SUFFIXES))}, '
            f"or end the name of a folder with /{nearest(suffix, SUFFIXES)}"
        )
    if settings.format is not None and SUFFIXES[suffix] != SUFFIXES[f".{settings.format}"]:
        raise InputError(
            f"--output {output} and --format {settings.format} contradict each other; leave one of them out"
        )
    _check_count(suffix, count, job, output)
    return _named(output, job, settings, "")


def _suffix(job: Job, count: int, format: str | None) -> str:
    """Suffix for a number of layers; several as PNG are a folder, which has none."""
    if format is None:
        format = "png" if count == 1 else "psd"
    if format == "png" and count > 1:
        return ""
    _check_count(f".{format}", count, job, f"--format {format}")
    return f".{format}"


def _check_count(suffix: str, count: int, job: Job, given: str) -> None:
    """Refuse a kind of file that cannot show the layers of a job.

    Raises:
        InputError: Several layers for a picture, one for an animation.
    """
    if suffix in PICTURES and count > 1:
        raise InputError(
            f"{given}: {job.task.id} gives {count} layers and one {suffix} holds one; use .psd, .ora or a folder"
        )
    if suffix == ANIMATION and count == 1:
        raise InputError(f"{given}: {job.task.id} gives one layer, which cannot come apart; use .png or .webp")


def _named(template: str, job: Job, settings: Settings, suffix: str) -> Path:
    """Fill in a template's fields."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InputError(f"--output {template}: {error}; write fields as {{stem}}, {{task}} or {{seed}}") from error
    for name in sorted(names.difference(FIELDS)):
        raise InputError(
            f"--output: unknown field {{{name}}}; use {{stem}}, {{task}} and {{seed}}{nearest(name, FIELDS)}"
        )
    return Path(template.format(stem=job.stem, task=job.task.id, seed=settings.seed) + suffix)
