"""The tables of a run: one of its own for every task, and the paper's Tables 2 to 6 with this run beside its rows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnialpha.evaluation.results import Results
from omnialpha.evaluation.scoring import direction
from omnialpha.evaluation.tables import Table, latex, markdown
from omnialpha.imaging.files import atomic_write

PAPER = Path(__file__).with_name("paper_tables.json")
NONE = "–"

_METRICS = {
    "matte": ("sad", "mse", "mad", "grad", "conn"),
    "cutout": ("sad", "mse", "mad", "grad", "conn", "rgba_psnr", "rgba_ssim"),
    "picture": ("psnr", "ssim", "lpips", "fid", "clip_fid"),
    "layers": (
        *("rgb_l1@0", "alpha_soft_iou@0", "rgb_l1@5", "alpha_soft_iou@5"),
        *("background_psnr", "background_ssim", "recomposition_l1"),
    ),
    "generated": ("fid", "clip_fid", "clip_score"),
}
_HEADINGS = {
    "alpha_soft_iou": "soft IoU",
    "rgb_l1": "RGB L1",
    "clip_score": "CLIP-Score",
    "clip_fid": "CLIP-FID",
    "recomposition_l1": "recomposition L1",
}
_ACRONYMS = ("sad", "mse", "mad", "grad", "conn", "psnr", "ssim", "lpips", "fid")
_DATA_SETS = {"aim500": "AIM-500", "refmatte_rw100": "RefMatte-RW100", "rord": "RORD"}
_FROM_MANIFEST = ("alphalayers_test", "completion", "t2i")
_SHOWN = 5  # failures and extra files named in a table's foot; all are in results.json


def tables(results: Results) -> list[Table]:
    """All tables of a run.

    Args:
        results: As `results.collect` returns them.

    Returns:
        One table per kind of prediction, then those of the paper that the run has numbers for. The last table's foot
        states settings, conversions and failures.
    """
    size = results["settings"]["rules"]["size"]
    own = [_own_table(results, kind, size) for kind in _METRICS]
    found = [table for table in own if table is not None]
    for layout in json.loads(PAPER.read_text(encoding="utf-8"))["tables"]:
        if (table := _paper_table(results, layout, size)) is not None:
            found.append(table)
    last = found.pop()
    return [*found, Table(**{**vars(last), "notes": [*last.notes, *foot(results)]})]


def write_tables(results: Results, out: Path) -> None:
    """Write table.md and table.tex, replacing older ones.

    Raises:
        OutputError: They cannot be written.
    """
    for name, draw in (("table.md", markdown), ("table.tex", latex)):
        with atomic_write(out / name, overwrite=True) as temporary:
            temporary.write_text("\n\n".join(draw(table) for table in tables(results)) + "\n", encoding="utf-8")


def foot(results: Results) -> list[str]:
    """What has to be known beside the numbers: settings, conversions, failures, files that belong to no case."""
    settings, counts = results["settings"], results["counts"]
    rules, choices = settings["rules"], settings["choices"]
    notes = [f"Data: {_data_name(settings)}, hash {results['hashes']['data']}; {_number(counts)}."]
    chosen = ", ".join(f"{name}: {_plain(value)}" for name, value in choices.items() if value is not None)
    notes += [f"Choices: {chosen}."] if chosen else []
    region = "the trimap's unknown region" if rules["region"] == "trimap" else "the whole image"
    mattes = f"; mattes by the {rules['convention']} convention over {region}"
    has_mattes = any(task["kind"] in ("matte", "cutout") for task in results["tasks"].values())
    notes.append(f"Scores at the {rules['size']} size{mattes * has_mattes}.")
    if any("rgba_psnr" in task["means"]["native"] or task["kind"] == "generated" for task in results["tasks"].values()):
        notes.append("RGBA pictures: mean over the nine backgrounds of AlphaVAE's protocol.")
    notes += [f"{name}: not computed, {reason}." for name, reason in results["not_computed"].items()]
    notes += [f"Converted ({count}): {what}." for what, count in results["conversions"].items()]
    failures = results["failures"]
    notes += [f"FAILED {failure['error']}" for failure in failures[:_SHOWN]]
    notes += [f"FAILED: {len(failures) - _SHOWN} more, see results.json."] if len(failures) > _SHOWN else []
    extra = results["extra_files"]
    if extra:
        notes.append(
            f"Files without a case ({len(extra)}): {', '.join(extra[:_SHOWN])}{', …' * (len(extra) > _SHOWN)}."
        )
    return notes


def heading(metric: str) -> str:
    """A metric's name with the direction in which it improves.

    >>> heading("sad"), heading("alpha_soft_iou@5"), heading("rgba_psnr")
    ('SAD ↓', 'soft IoU@5 ↑', 'RGBA PSNR ↑')
    """
    name, _, edits = metric.partition("@")
    shown = _HEADINGS.get(name) or name.replace("rgba_", "RGBA ").replace("background_", "background ")
    shown = " ".join(word.upper() if word in _ACRONYMS else word for word in shown.split())
    return f"{shown}{'@' * bool(edits)}{edits} {'↓' if direction(metric) == 'lower' else '↑'}"


def _own_table(results: Results, kind: str, size: str) -> Table | None:
    """Means of all tasks of one kind, one row per task and size."""
    tasks = {name: task for name, task in results["tasks"].items() if task["kind"] == kind}
    if not tasks:
        return None
    rows = []
    for name, task in tasks.items():
        for at in sorted(task["means"], key=lambda other: other != size):
            median = "×".join(map(str, task["median_size"][at])) or NONE
            number = f"{task['scored']}/{task['cases']}"
            rows.append([name, f"{at} {median}", number, *(_value(task, metric, at) for metric in _METRICS[kind])])
    title = f"{results['benchmark']}: {results['method']['name']}"
    columns = ("Task", "Size (median)", "Images", *map(heading, _METRICS[kind]))
    return Table(title=title, columns=columns, rows=rows)


def _paper_table(results: Results, layout: Mapping[str, Any], size: str) -> Table | None:
    """A table of the paper with one more row per task of this run; None when the run has no part in it."""
    groups = layout["groups"]
    tasks = [name for name in results["tasks"] if any(_belongs(results, name, group) for group in groups)]
    if not tasks:
        return None
    rows = [[_paper_name(name), *map(_number_text, values)] for name, values in layout["rows"].items()]
    cells, suffix = [], ""
    for group in groups:
        served = [task for task in tasks if _belongs(results, task, group)]
        task = results["tasks"][served[0]] if served else None
        cells += [NONE if task is None else _value(task, metric, size) for metric in group["columns"]]
        if task is not None and len(group["tasks"]) > 1:
            suffix = f" ({served[0]})"
    rows.append([f"{results['method']['name']}{suffix}, this run", *cells])
    notes = [f"Rows without “this run” are the paper's own numbers (its Table {layout['number']})."]
    if results["benchmark"] in _FROM_MANIFEST and not results["settings"]["choices"].get("captions"):
        data = _data_name(results["settings"])
        notes.append(f"The paper's AlphaLayersTest has 100 samples of its own; this run's numbers are on {data}.")
    if layout["number"] in (4, 5) and results["settings"]["rules"]["convention"] != "aim":
        notes.append("The paper's rows follow the aim convention: GRAD and CONN do not compare with this run's.")
    if layout["number"] in (4, 5):
        sizes = {"×".join(map(str, results["tasks"][task]["median_size"].get(size) or ["?"])) for task in tasks}
        notes.append(f"SAD, GRAD and CONN grow with the number of pixels: this run's median is {', '.join(sizes)}.")
    if layout["number"] == 3:
        notes.append("Win rates come from `omnialpha eval judge` or `omnialpha eval study`.")
    columns = ("Method", *(_column(metric) for group in groups for metric in group["columns"]))
    title = f"Table {layout['number']} of the paper. {layout['caption']}"
    return Table(
        title=title,
        groups=[(group["name"], len(group["columns"])) for group in groups],
        columns=columns,
        rows=rows,
        notes=notes,
    )


def _belongs(results: Results, task: str, group: Mapping[str, Any]) -> bool:
    """Whether a group of columns is about a task on the data of this run."""
    data_set = _DATA_SETS.get(results["benchmark"])
    if results["benchmark"] in _FROM_MANIFEST:
        data_set = "AIM-500" if results["settings"]["choices"].get("captions") else "AlphaLayersTest"
    return task in group["tasks"] and data_set == group["data"]


def _column(metric: str) -> str:
    return heading(metric) if metric.islower() else metric


def _paper_name(name: str) -> str:
    return name.replace("Ours", "OmniAlpha")


def _value(task: Mapping[str, Any], metric: str, size: str) -> str:
    """A mean as text, with the number of images where it is not that of the scored ones."""
    found = task["set"].get(metric) or task["means"].get(size, task["means"]["native"]).get(metric)
    if found is None:
        return NONE
    count = "" if found["count"] == task["scored"] else f" (n={found['count']})"
    return f"{_number_text(float(found['mean']))}{count}"


def _number_text(value: float) -> str:
    """Four digits, in plain notation.

    >>> _number_text(0.0046), _number_text(47.58), _number_text(1234.5), _number_text(float("inf"))
    ('0.0046', '47.58', '1234', '∞')
    """
    if value == float("inf"):
        return "∞"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.2e}"


def _data_name(settings: Mapping[str, Any]) -> str:
    """The data without the way to it; a manifest with its folder, as most are called alike."""
    data = Path(settings["data"])
    return "/".join(data.parts[-2:]) if data.suffix else data.name


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _number(counts: Mapping[str, int]) -> str:
    text = f"{counts['scored']} of {counts['cases']} cases scored"
    if counts["failed"]:
        text += f", {counts['failed']} failed and are in no mean"
    if counts["left_out_by_limit"]:
        text += f", {counts['left_out_by_limit']} left out by the limit"
    return text
