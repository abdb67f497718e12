"""The right side of the page in use: running, looking, arranging layers, taking files home."""

import secrets
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from omnialpha.apps.server.jobs import Work
from omnialpha.apps.studio import download
from omnialpha.apps.studio.arrange import arrange
from omnialpha.apps.studio.choices import FAMILIES, ways
from omnialpha.apps.studio.history import Entry, History, Visit, new_key
from omnialpha.apps.studio.page.layout import Page, shelf_item
from omnialpha.apps.studio.page.question import Question
from omnialpha.apps.studio.runs import Run, follow
from omnialpha.apps.studio.telling import Updates, nothing_else, progress, said, told
from omnialpha.apps.studio.view import Backdrop, before_and_after, data_uri, over_backdrop, thumbnail
from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.refine import is_reduced, refine
from omnialpha.tasks import SEVERAL, TASKS

_SEEDS = 2**31


Values = dict[Any, Any]


def _idle(answer: "Answer") -> Updates:
    """Nothing runs: another run may be started."""
    return {answer.page.start: gr.update(visible=True), answer.page.cancel: gr.update(visible=False)}


def _no_file(answer: "Answer") -> Updates:
    """There is nothing to fetch."""
    return {answer.page.file: None}


class Answer:
    """The actions of the right side. Each gets the values of parts, as ``{part: value}``.

    Args:
        page: The parts of the page.
        question: The left side.
        run: Does the work.
        history: Where results are kept.
    """

    def __init__(self, page: Page, question: Question, run: Run, history: History) -> None:
        self.page, self._question, self._run, self._history = page, question, run, history

    @told(_idle)
    def start(self, values: Values) -> Iterator[Updates]:
        """Run the task, show its progress, then its layers."""
        p, visit = self.page, values[self.page.visit]
        work = self._work(values)
        visit.cancel = cancel = threading.Event()
        yield {
            p.status: progress("Getting ready", 0, 0),
            p.start: gr.update(visible=False),
            p.cancel: gr.update(visible=True),
            p.seed: work.seed,
        }
        entry = yield from self._entry(work, values, cancel)
        if entry is None:
            yield {p.status: said("Cancelled.")} | _idle(self)
            return
        self._history.add(entry)
        visit.keys.append(entry.key)
        yield self._show(entry, values) | self._shelf(visit) | {p.result: gr.update(visible=True)} | _idle(self)

    @told(nothing_else)
    def cancel(self, visit: Visit) -> Updates:
        """End the run in progress at its next step."""
        if visit.cancel is not None:
            visit.cancel.set()
        return {self.page.status: progress("Cancelling", 0, 0)}

    @told(nothing_else)
    def change_backdrop(self, values: Values) -> Updates:
        """Show the layers over something else."""
        p, kind = self.page, values[self.page.backdrop]
        updates: Updates = {p.colour: gr.update(visible=kind == "colour"), p.own: gr.update(visible=kind == "picture")}
        return updates | (self._look(self._shown(values), values) if values[p.visit].shown else {})

    @told(nothing_else)
    def arrange(self, values: Values, change: gr.EventData) -> Updates:
        """Order, name, hide or fade layers."""
        entry = self._shown(values)
        arrange(entry.small, change.rows)  # refuses what does not fit before anything is changed
        entry.rows = change.rows
        return self._look(entry, values)

    @told(nothing_else)
    def show_again(self, values: Values, chosen: gr.EventData) -> Updates:
        """Show an earlier result of this visit."""
        entries = self._history.kept(reversed(values[self.page.visit].keys))
        if not 0 <= chosen.index < len(entries):
            raise InputError("this result had to make room for newer ones; run it again")
        return self._show(entries[chosen.index], values)

    @told(_no_file)
    def save(self, values: Values) -> Updates:
        """Write the layers, as they are arranged, to a file for the browser to fetch."""
        p, entry = self.page, self._shown(values)
        stem = entry.images[0].stem if entry.images else entry.work.text or "layers"
        folder = self._history.files(entry.key)
        file = download.export(entry.arranged, values[p.format], folder, f"{stem} {entry.work.task}")
        return {p.file: str(file), p.status: said(f"{file.name}, {file.stat().st_size / 1e6:.1f} MB")}

    def _work(self, values: Values) -> Work:
        """What is asked for, checked as far as it can be without pictures."""
        p, task = self.page, self.page.task(values)
        work = Work(
            task=task.id,
            text=values[p.text] if task.text is not None else None,
            seed=secrets.randbelow(_SEEDS) if values[p.fresh] else int(values[p.seed] or 0),
            steps=int(values[p.steps]),
            guidance=float(values[p.guidance]),
            layers=int(values[p.layers]) if SEVERAL in task.targets else None,
        )
        task.prompt(work.text)
        return work

    def _entry(self, work: Work, values: Values, cancel: threading.Event) -> Generator[Updates, None, Entry | None]:
        """Do the work; a run without a result leaves no files behind."""
        p, key, began = self.page, new_key(), time.monotonic()
        entry = None
        try:
            images = self._question.pictures(TASKS[work.task], values, self._history.files(key))
            stack = yield from self._followed(follow(self._run, work, images, cancel))
            if stack is not None and values[p.sharp] and is_reduced(stack):
                yield {p.status: progress("Sharpening the edges", 0, 0)}
                stack = refine(work.task, [rgba.read(file) for file in images], stack)
            if stack is not None:
                entry = Entry(key=key, work=work, images=images, stack=stack, seconds=time.monotonic() - began)
        finally:
            if entry is None:
                self._history.forget([key])
        return entry

    def _followed(
        self, steps: Generator[tuple[int, int], None, LayerStack | None]
    ) -> Generator[Updates, None, LayerStack | None]:
        """Progress as updates."""
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                stack: LayerStack | None = end.value
                return stack
            text = f"Step {done} of {total}" if done else "Waiting for the model"
            yield {self.page.status: progress(text, done, total)}

    def _shown(self, values: Values) -> Entry:
        """The result in view."""
        key = values[self.page.visit].shown
        if key is None:
            raise InputError("there is no result yet; run something first")
        return self._history.get(key)

    def _show(self, entry: Entry, values: Values) -> Updates:
        """Put a result in view, with its list of layers and a line that says how it was made."""
        values[self.page.visit].shown = entry.key
        pictures = {index: data_uri(thumbnail(layer.image)) for index, layer in enumerate(entry.small)}
        rows = [row | {"thumbnail": pictures[row["index"]]} for row in entry.rows]
        return self._look(entry, values) | {self.page.rows: rows, self.page.status: said(describe(entry))}

    def _look(self, entry: Entry, values: Values) -> Updates:
        """The visible layers over the chosen backdrop; before and after."""
        p = self.page
        own = values[p.own]
        backdrop = Backdrop(kind=values[p.backdrop], colour=values[p.colour], picture=Path(own) if own else None)
        shown = over_backdrop(arrange(entry.small, entry.rows).flatten(), backdrop)
        width, height = entry.stack.size
        first = rgba.read(entry.images[0]) if entry.images and entry.images[0].exists() else None
        return {
            p.view: {"src": data_uri(shown), "alt": describe(entry), "size": f"{width} × {height}"},
            p.slider: before_and_after(first, shown, backdrop),
        }

    def _shelf(self, visit: Visit) -> Updates:
        """The results of this visit that are still kept, the newest first."""
        entries = self._history.kept(reversed(visit.keys))
        items = [shelf_item(entry.small.flatten(), _caption(entry)) for entry in entries]
        return {self.page.history: items, self.page.past: gr.update(visible=True)}


def describe(entry: Entry) -> str:
    """How a result was made, in one line."""
    work, task = entry.work, TASKS[entry.work.task]
    way = next(way.label for way in ways(task.category) if way.task == task.id)
    parts = [FAMILIES[task.category], way, f'"{work.text}"' if work.text else None, f"seed {work.seed}"]
    parts += [f"{work.steps} steps", f"guidance {work.guidance:g}", f"{entry.seconds:.1f} s"]
    return " · ".join(part for part in parts if part is not None)


def _caption(entry: Entry) -> str:
    return f"{FAMILIES[TASKS[entry.work.task].category]}, seed {entry.work.seed}"
