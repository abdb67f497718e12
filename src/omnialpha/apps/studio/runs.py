"""One run of the model as the page follows it: progress while it lasts, a way to cancel, layers at the end."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnialpha.apps.server.jobs import Work
from omnialpha.imaging import rgba
from omnialpha.imaging.layers import LayerStack

if TYPE_CHECKING:
    from omnialpha.apps.server.service import Service

Progress = Callable[[int, int], None]
"""Called with the sampling steps done and those in all."""

Run = Callable[[Work, Sequence[Path], Progress, threading.Event], LayerStack | None]
"""Does the work on pictures in files, reports, and ends early with None once the event is set."""


def through(service: "Service") -> Run:
    """Runs that wait in the queue of a service, so that page and API never use the model at the same time.

    Args:
        service: A started service.
    """

    def run(work: Work, images: Sequence[Path], report: Progress, cancel: threading.Event) -> LayerStack | None:
        job = service.submit(work, [rgba.read(file) for file in images])

        def cancel_it() -> None:
            cancel.wait()
            service.cancel(job.id)  # changes nothing when the job has ended before

        threading.Thread(target=cancel_it, name="studio-cancel", daemon=True).start()
        state = job.state
        for now in service.follow(job.id):
            state = now.state
            report(now.step, now.steps)
        return None if state == "cancelled" else service.result(job.id)

    return run


def follow(
    run: Run, work: Work, images: Sequence[Path], cancel: threading.Event
) -> Generator[tuple[int, int], None, LayerStack | None]:
    """Do the work in a thread of its own and hand its progress on.

    A generator that is closed early, because the visitor has gone, cancels the run.

    Args:
        run: Does the work.
        work: What is asked for.
        images: Files in the order of the task's input slots.
        cancel: Ends the run when it is set.

    Yields:
        Steps done and steps in all.

    Returns:
        The layers; None when the run was cancelled.

    Raises:
        Exception: What the run raised.
    """
    news: queue.Queue[tuple[int, int] | None] = queue.Queue()
    results: list[LayerStack | None] = []
    problems: list[BaseException] = []

    def do() -> None:
        try:
            results.append(run(work, images, lambda done, total: news.put((done, total)), cancel))
        except BaseException as error:  # whatever it is, it belongs to the thread that waits
            problems.append(error)
        finally:
            news.put(None)

    thread = threading.Thread(target=do, name="studio-run", daemon=True)
    thread.start()
    try:
        while (step := news.get()) is not None:
            yield step
    finally:
        cancel.set()  # does nothing after the end
    thread.join()
    if problems:
        raise problems[0]
    return results[0]
