"""The page of a run: one HTML file without network, every image from worst to best, with input, target and error."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.errors import ImageError, InputError
from omnialpha.evaluation._inputs import unit_floats
from omnialpha.evaluation.cases import Case, Content, flat
from omnialpha.evaluation.harness import Record, saved_predictions
from omnialpha.evaluation.plan import Plan
from omnialpha.evaluation.predictions import Predictions, read_prediction
from omnialpha.evaluation.report import heading, tables
from omnialpha.evaluation.results import Results, shown_values
from omnialpha.evaluation.scoring import Prediction, direction, resized, size_of
from omnialpha.evaluation.tables import Table
from omnialpha.imaging.backdrop import checkerboard, lay_over
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.rgba import premultiply, to_pil

_QUALITY = 80
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
article h3 { font-size: 1rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
article p { margin: .2rem 0; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; }
figcaption { font-size: .8rem; opacity: .75; }
img { display: block; max-width: 100%; }
.failed h3 { color: #c33; }
nav { background: var(--soft); padding: .5rem 1rem; }
"""


def write_page(results: Results, plan: Plan, out: Path, *, side: int = 192) -> Path:
    """Write index.html, replacing an older one.

    Images are sorted from worst to best by each task's metric, failures first. Pictures are resized, laid over a
    checkerboard, and stored inside the page.

    Args:
        results: Of the run.
        plan: The run; its targets and predictions are read again.
        out: Its output folder.
        side: Longest side of the pictures in the page.

    Returns:
        The file.

    Raises:
        OutputError: It cannot be written.
    """
    file = out / "index.html"
    with atomic_write(file, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as page:
        for part in _parts(results, plan, saved_predictions(plan, out), side):
            page.write(part + "\n")
    return file


def sorted_images(results: Results, task: str) -> list[Record]:
    """The images of a task from worst to best, failures first, then by name.

    Args:
        results: Of a run.
        task: One of its tasks.

    Returns:
        Their records. Images without the metric that decides come last.
    """
    metric, size = results["tasks"][task]["sorted_by"], results["settings"]["rules"]["size"]
    sign = 1 if direction(metric) == "higher" else -1

    def key(record: Record) -> tuple[int, float, str]:
        if record["status"] != "scored":
            return 0, 0.0, record["id"]
        value = shown_values(record, size).get(metric)
        return (2, 0.0, record["id"]) if value is None else (1, sign * value, record["id"])

    return sorted((record for record in results["images"] if record["task"] == task), key=key)


def _parts(results: Results, plan: Plan, saved: Predictions, side: int) -> Iterator[str]:
    title = html.escape(f"{results['benchmark']}: {results['method']['name']}")
    yield f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>"
    for table in tables(results):
        yield _html_table(table)
    links = " · ".join(f'<a href="#{task}">{task}</a>' for task in results["tasks"])
    yield f"<nav>From worst to best: {links}</nav>"
    cases = {case.name: case for case in plan.cases}
    size = results["settings"]["rules"]["size"]
    for task, summary in results["tasks"].items():
        yield f'<section id="{task}"><h2>{task}</h2><p>Sorted by {html.escape(heading(summary["sorted_by"]))}</p>'
        for record in sorted_images(results, task):
            yield _article(record, cases[f"{task}/{record['id']}"], saved, size, side)

        yield "</section>"
    yield "</body>\n</html>"


def _article(record: Record, case: Case, saved: Predictions, size: str, side: int) -> str:
    """One image with its values and pictures."""
    failed = record["status"] != "scored"
    name = html.escape(record["id"])
    lines = [f'<article data-id="{name}"{" class=failed" if failed else ""}><h3>{name}</h3>']
    if case.text:
        lines.append(f"<p>“{html.escape(case.text)}”</p>")
    if failed:
        lines.append(f"<p>{html.escape(record['error'])}</p>")
    else:
        values = shown_values(record, size).items()
        lines.append(f"<p>{html.escape(' · '.join(f'{heading(metric)} {value:.4g}' for metric, value in values))}</p>")
    lines += [f"<p>{html.escape(note)}</p>" for note in record.get("conversions", ())]
    figures = [_figure(label, picture, side) for label, picture in _pictures(case, saved, failed=failed)]
    return "\n".join([*lines, '<div class="pictures">', *figures, "</div></article>"])


def _pictures(case: Case, saved: Predictions, *, failed: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Labels and pictures of a case; of a failed one what can be read."""
    try:
        content = case.read(lambda note: None)
    except (ImageError, InputError):
        return
    for number, image in enumerate(content.images, start=1):
        yield "input" if len(content.images) == 1 else f"input {number}", np.asarray(image)
    if content.target is not None:
        yield from _named("reference" if case.kind == "generated" else "target", content.target)
    try:
        prediction = read_prediction(saved.find(case), case, lambda note: None)
    except (ImageError, InputError):
        return
    yield from _named("prediction", prediction)
    error = None if failed else error_map(case, content, prediction)
    if error is not None:
        yield "error", error


def _named(label: str, pictures: Prediction) -> Iterable[tuple[str, np.ndarray]]:
    if not isinstance(pictures, list):
        return [(label, pictures)]
    layers = [(f"{label}, layer {index}", layer) for index, layer in enumerate(pictures)]
    return [*layers, (f"{label}, flattened", flat(pictures))]


def error_map(case: Case, content: Content, prediction: Prediction) -> np.ndarray | None:
    """Where a prediction is wrong: ``(H, W)`` in [0, 1] at the target's size; None where there is no truth.

    Mattes: |difference|. Pictures, cut-outs and layers: its mean over the channels, premultiplied.
    """
    target = content.target
    if target is None or case.kind == "generated":
        return None
    prediction = resized(prediction, size_of(target))
    if isinstance(target, list) and isinstance(prediction, list):
        # Each layer against that at its place from the back, a missing one counting as empty; the worst per pixel.
        nothing = np.zeros_like(target[0])
        maps = [_difference(p, t) for p, t in zip_longest(prediction, target, fillvalue=nothing)]
        worst: np.ndarray = np.max(maps, axis=0)
        return worst
    assert isinstance(target, np.ndarray)
    assert isinstance(prediction, np.ndarray)
    return _difference(prediction, target)


def _difference(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    p, t = (unit_floats(x) for x in (prediction, target))
    if t.ndim == 2:
        return np.abs(p - t)
    if t.shape[2] == 4:
        p, t = premultiply(p), premultiply(t)
    difference: np.ndarray = np.abs(p - t).mean(axis=2)
    return difference


def _figure(label: str, pixels: np.ndarray, side: int) -> str:
    image = to_pil(pixels)
    factor = side // max(image.size)
    if factor > 1:  # small pictures by whole pixels, so that each can be seen
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    lay_over(image, checkerboard(image.size)).save(stream, "JPEG", quality=_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    picture = f'<img src="data:image/jpeg;base64,{data}" alt="{label}" {size} loading="lazy">'
    return f"<figure>{picture}<figcaption>{label}</figcaption></figure>"


def _html_table(table: Table) -> str:
    lines = [f"<h2>{html.escape(table.title)}</h2>", "<table>"]
    if table.groups:
        cells = "".join(f'<th colspan="{count}">{html.escape(name)}</th>' for name, count in table.groups)
        lines.append(f"<tr><th></th>{cells}</tr>")
    lines.append(_html_row(table.columns, "th"))
    lines += [_html_row(row, "td") for row in table.rows]
    return "\n".join([*lines, "</table>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)])


def _html_row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
