"""What the command line tells about itself: `tasks`, `models`, `doctor`. Each imports what it needs when it runs."""

import json
import platform
import re
from typing import TYPE_CHECKING, Any

import typer

from omnialpha.tasks import SEVERAL, TASKS

if TYPE_CHECKING:
    from omnialpha.hub import Checkpoint

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "pillow", "psd-tools", "numpy", "scipy")


def show_tasks(*, as_json: bool) -> None:
    """Print the 21 tasks."""
    rows = [
        {"id": t.id, "category": t.category, "inputs": t.inputs, "text": t.text, "targets": t.targets}
        for t in TASKS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return

    def slots(names: tuple[str, ...]) -> str:
        return ", ".join("foreground…" if name == SEVERAL else name for name in names) or "–"

    print_table(
        ["TASK", "PICTURES IN", "TEXT", "LAYERS OUT"],
        [[t.id, slots(t.inputs), t.text or "–", slots(t.targets)] for t in TASKS.values()],
    )


def show_models(*, as_json: bool) -> None:
    """Print the checkpoints that have a name."""
    from omnialpha.hub import CHECKPOINTS  # imports the hub client

    rows = [_model(checkpoint) for checkpoint in CHECKPOINTS.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['summary']}")
        typer.echo(f"  weights  {row['where']}, {row['size']}")
        typer.echo(f"  licence  {row['licence']}")
    typer.echo("Also --model FOLDER or OWNER/NAME (saved by save_pretrained), with --adapter for the released layout.")


def show_doctor(*, as_json: bool) -> None:
    """Print versions, device, memory, extras, and which checkpoint fits."""
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for name, version in report["versions"].items():
        typer.echo(f"{name:<18}{version}")
    device = report["device"]
    typer.echo(f"{'device':<18}{device['name']} ({device['type']}), {device['memory_gb']:.1f} GB free")
    for extra, missing in report["missing_extras"].items():
        state = f"missing {', '.join(missing)}; pip install 'omnialpha[{extra}]'" if missing else "installed"
        typer.echo(f"{'extra ' + extra:<18}{state}")
    for name, gigabytes in report["weights_gb"].items():
        state = "fits" if report["fits"][name] else "does not fit as it is; see omnialpha doctor --plan --model " + name
        typer.echo(f"{'model ' + name:<18}{state} ({gigabytes:.1f} GB of weights)")


def show_memory_plan(*, as_json: bool) -> None:
    """Print the memory that training the 20B base takes, reckoned without weights."""
    from omnialpha.training.memory import table  # imports torch

    plans = table()
    if as_json:
        typer.echo(json.dumps(plans, indent=2))
        return
    parts = list(next(iter(plans.values())))
    header = ["GB ON ONE GPU", *(part.upper() for part in parts if part != "trained"), "TRAINED (MILLION)"]
    print_table(
        header,
        [
            [name, *(f"{plan[part]:.1f}" for part in parts if part != "trained"), f"{plan['trained']:.0f}"]
            for name, plan in plans.items()
        ],
    )
    typer.echo("One sample at once, three pictures, 400 text tokens; FSDP2 divides all but activations by the GPUs.")


def examine() -> dict[str, Any]:
    """Collect what `doctor` reports.

    Returns:
        JSON values: versions, device (type, name, memory_gb), missing_extras (extra → missing packages), weights_gb
        (checkpoint → its weights) and fits (checkpoint → whether they fit into the device's free memory).
    """
    import omnialpha
    from omnialpha.checkpoints import choose_device, choose_dtype
    from omnialpha.hub import CHECKPOINTS
    from omnialpha.memory.forecast import ROOM
    from omnialpha.memory.loading import weight_bytes
    from omnialpha.memory.machine import device_name, free_bytes

    device = choose_device(None)
    free = free_bytes(device)
    weights = {name: weight_bytes(name, choose_dtype(None, device)) for name in CHECKPOINTS}
    versions = {"omnialpha": omnialpha.__version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: _version(name) for name in _PACKAGES},
        "device": {"type": device.type, "name": device_name(device), "memory_gb": free / 1e9},
        "missing_extras": _missing_extras(),
        "weights_gb": {name: needed / 1e9 for name, needed in weights.items()},
        "fits": {name: ROOM * needed <= free for name, needed in weights.items()},
    }


def _model(checkpoint: "Checkpoint") -> dict[str, str]:
    """One checkpoint for `models`."""
    from omnialpha.hub import EMBEDDED

    if checkpoint.base is not None:
        where = f"hub: {checkpoint.base} with {checkpoint.adapter}"
        size = f"about {checkpoint.download_gb:g} GB to download"
    else:
        folder = EMBEDDED / checkpoint.name
        files = [path for path in folder.rglob("*") if path.is_file()]
        where = "embedded in the package"
        size = f"{sum(path.stat().st_size for path in files) / 1e6:.0f} MB" if files else "not in this build"
    return {
        "name": checkpoint.name,
        "summary": checkpoint.summary,
        "where": where,
        "size": size,
        "licence": checkpoint.licence,
    }


def _missing_extras() -> dict[str, list[str]]:
    """Each extra of the package and those of its packages that are not installed."""
    import importlib.metadata  # with the e-mail parser, which --help does not need

    missing: dict[str, list[str]] = {}
    try:
        requirements = importlib.metadata.requires("omnialpha") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source folder that was never installed
        requirements = []
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*\bextra == ['\"]([\w-]+)['\"]", requirement)
        if found is None:
            continue
        package, extra = found.groups()
        packages = missing.setdefault(extra, [])
        if _version(package) == "not installed":
            packages.append(package)
    return missing


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print aligned columns."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
