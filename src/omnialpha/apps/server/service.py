"""A service without HTTP: submit work, follow it, get the layers. The web application and the studio stand on it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import Image

from omnialpha.apps.server.jobs import Job, Plan, Work
from omnialpha.apps.server.metrics import Metrics
from omnialpha.apps.server.model import Model
from omnialpha.apps.server.problems import Problem, ServiceError, shutting_down
from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.apps.server.store import JobStore
from omnialpha.apps.server.worker import Worker
from omnialpha.errors import InputError
from omnialpha.imaging.layers import LayerStack
from omnialpha.models.pictures import as_image
from omnialpha.request import choose_sizes, understand

_QUEUE = 64  # requests of the largest size that may wait: bounds the disk that they take
_LOOK = 0.25  # seconds between looks at a job that another process may work on


class Service:
    """Jobs for one model, kept in a folder.

    Args:
        model: What does them.
        settings: Limits, and the folder.

    Attributes:
        model: The same.
        settings: The same.
        metrics: Figures for Prometheus.
        store: The jobs.
    """

    def __init__(self, model: Model, settings: ServiceSettings) -> None:
        self.model, self.settings = model, settings
        self.metrics = Metrics()
        self.store = JobStore(
            settings.data,
            max_jobs=settings.max_queue,
            max_weight=_QUEUE * settings.max_pixels,
            network=settings.network_folder,
        )
        self._worker = Worker(model, self.store, settings, self.metrics, self._notify)
        self._draining = threading.Event()
        self._followers: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._lock = threading.Lock()

    # --- life ---

    def start(self) -> None:
        """Begin to work, first on what an earlier process left."""
        self._worker.start()

    def drain(self) -> None:
        """Begin no more jobs; those that wait stay in the store, and who waits for them is told."""
        self._draining.set()
        self._worker.drain()

    def stop(self) -> None:
        """End; running jobs are finished within the grace time, or else queued again."""
        self.drain()
        self._worker.stop()

    @property
    def state(self) -> Literal["ok", "draining", "failing"]:
        """Whether it works."""
        return "draining" if self._draining.is_set() else "ok" if self._worker.is_healthy else "failing"

    # --- jobs ---

    def submit(self, work: Work, images: Sequence[Image.Image | np.ndarray] = ()) -> Job:
        """Accept a job; it is on disk when this returns.

        Args:
            work: What is asked for.
            images: The pictures of the task, in order; arrays as `omnialpha.imaging.rgba.to_pil` takes them.

        Raises:
            InputError: The work does not fit the task, the model or the limits.
            ImageError: A picture is empty or too large.
            ServiceError: There is no room.
        """
        return self.submit_all([(work, images)])[0]

    def submit_all(self, works: Iterable[tuple[Work, Sequence[Image.Image | np.ndarray]]]) -> list[Job]:
        """Accept jobs, all of them or none; see `submit`. They are taken one by one."""

        def planned() -> Iterator[tuple[Work, Plan, list[np.ndarray]]]:
            for work, images in works:
                pictures = [as_image(image) for image in images]
                yield work, self._plan(work, pictures), [np.asarray(picture) for picture in pictures]

        jobs = self.store.add(planned())
        self._worker.wake()
        return jobs

    def check_room(self) -> None:
        """Refuse a job before its pictures are received.

        Raises:
            ServiceError: There is no room, or the service ends.
        """
        if self._draining.is_set():
            raise ServiceError(Problem(503, "ShuttingDown", "the service is restarting; try again in a moment", 5))
        self.store.check_room()

    def job(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            ServiceError: There is no such job.
        """
        return self.store.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """End a job that is not finished, and return it.

        Raises:
            ServiceError: There is no such job.
        """
        job = self.store.cancel(job_id)
        self._notify(job_id)
        return job

    def result(self, job_id: str) -> LayerStack:
        """The layers of a job that is done.

        Raises:
            ServiceError: There is no such job, it is not finished, or it failed.
        """
        job = self.job(job_id)
        if job.problem is not None:
            raise ServiceError(job.problem)
        if job.state != "done":
            remedy = "send it again" if job.state == "cancelled" else f"wait for it: /v1/jobs/{job_id}/events"
            raise ServiceError(Problem(409, "NoResult", f"job {job_id} is {job.state}; {remedy}"))
        return self.store.files.result(job_id)

    def follow(self, job_id: str) -> Iterator[Job]:
        """A job whenever it has moved on, until it is finished; blocks in between.

        Raises:
            ServiceError: There is no such job, or the service ends before its turn.
        """
        last = None
        while last is None or not last.is_finished:
            job = self._look(job_id)
            if job != last:
                yield job
                last = job
            else:
                time.sleep(_LOOK / 2)

    async def follow_async(self, job_id: str) -> AsyncIterator[Job]:
        """The same for an event loop; told at once of what this process does, soon of what others do."""
        changed = asyncio.Event()
        last = None
        with self._following(job_id, changed):
            while last is None or not last.is_finished:
                changed.clear()
                job = await asyncio.to_thread(self._look, job_id)
                if job != last:
                    yield job
                    last = job
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _LOOK)

    # --- inside ---

    def _look(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.state == "queued" and self._draining.is_set():
            raise shutting_down(job_id)
        return job

    def _plan(self, work: Work, pictures: list[Image.Image]) -> Plan:
        """Check work as the pipeline would, and against the limits; find what it may be batched with."""
        limits, pixels = self.settings, self.settings.max_pixels
        for picture in pictures:
            _check_limit("a picture", picture.width * picture.height, "pixels", pixels)
        pipeline = self.model.pipeline
        request = understand(
            pipeline.profile,
            task=work.task,
            text=work.text,
            prompt=None,
            images=pictures or None,
            num_targets=work.layers,
            steps=work.steps,
            true_cfg_scale=work.guidance,
            num_embeds=None,
        )
        if request.steps == 1 and pipeline.scheduler.config.shift_terminal:
            raise InputError("this model's scheduler takes 2 or more steps, received 1; leave steps out")
        _check_limit("the job", request.steps, "steps", limits.max_steps)
        _check_limit("the result", request.num_targets, "layers", limits.max_layers)
        (width, height), work_size = choose_sizes(request, pipeline.profile, work.height, work.width)
        _check_limit("the result", width * height, "pixels", pixels)
        sizes = [picture.size for picture in pictures]
        guidance = request.true_cfg_scale
        key = f"{work.task} {request.num_targets} {request.steps} {guidance} {sizes} {width}×{height} {work_size}"
        weight = sum(w * h for w, h in sizes) + width * height * request.num_targets
        return Plan(key=f"{key} {work.width} {work.height}", weight=weight, steps=request.steps)

    @contextlib.contextmanager
    def _following(self, job_id: str, event: asyncio.Event) -> Iterator[None]:
        follower = (asyncio.get_running_loop(), event)
        with self._lock:
            self._followers.setdefault(job_id, set()).add(follower)
        try:
            yield
        finally:
            with self._lock:
                followers = self._followers[job_id]
                followers.discard(follower)
                if not followers:
                    del self._followers[job_id]

    def _notify(self, job_id: str) -> None:
        with self._lock:
            followers = list(self._followers.get(job_id, ()))
        for loop, event in followers:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its followers with it
                loop.call_soon_threadsafe(event.set)


def _check_limit(what: str, value: int, unit: str, limit: int) -> None:
    if value > limit:
        raise InputError(f"{what} has {value} {unit}, more than the {limit} that this service takes; ask for less")
