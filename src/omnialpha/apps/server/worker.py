"""The one thread that calls the model: claims jobs from the store, batches those that fit together, stores results.

Sampling steps are the places where a running job can be stopped: there progress is noted, and a cancelled job, a time
limit or the end of the service is seen.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from omnialpha.apps.batch import refined
from omnialpha.apps.server.jobs import Job
from omnialpha.apps.server.metrics import Metrics
from omnialpha.apps.server.model import Model
from omnialpha.apps.server.problems import Problem, problem_of
from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.apps.server.store import JobStore
from omnialpha.imaging.layers import LayerStack

logger = logging.getLogger(__name__)

_LOOK = 0.2  # seconds between looks at a queue that other processes fill, too
_REPORT = 0.1  # seconds between notes of progress
_PAUSE = 1.0  # seconds after a failure of the store
_CLEAN = 60.0  # seconds between looks for jobs to forget
_SICK = 5  # batches in a row that failed for reasons of ours


class Worker:
    """Works until it is stopped.

    Args:
        model: What to call.
        store: Where jobs come from and results go.
        settings: Limits.
        metrics: Told about batches and jobs.
        changed: Called with the id of a job that has moved on, from the worker's threads.
    """

    def __init__(
        self,
        model: Model,
        store: JobStore,
        settings: ServiceSettings,
        metrics: Metrics,
        changed: Callable[[str], None],
    ) -> None:
        self._model, self._store, self._settings, self._metrics = model, store, settings, metrics
        self._changed = changed
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._awake, self._stopping, self._abandon = threading.Event(), threading.Event(), threading.Event()
        self._failures = 0
        self._cleaned = 0.0
        # Two: results are encoded and written while the model is at the next batch.
        self._writers = ThreadPoolExecutor(2, thread_name_prefix="omnialpha-results")
        self._writing: list[Future[None]] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, name="omnialpha-model", daemon=True),
            threading.Thread(target=self._keep_leases, name="omnialpha-leases", daemon=True),
        ]

    @property
    def is_healthy(self) -> bool:
        """Whether the thread lives and its last batches did not all fail for reasons of ours."""
        return self._threads[0].is_alive() and self._failures < _SICK

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Tell that there is a new job."""
        self._awake.set()

    def drain(self) -> None:
        """Take no new jobs; the running batch goes on."""
        self._stopping.set()
        self._awake.set()

    def stop(self) -> None:
        """End: running jobs are finished within the grace time, or else queued again."""
        self.drain()
        self._threads[0].join(self._settings.grace)
        self._abandon.set()  # seen at the next sampling step
        self._threads[0].join()
        self._writers.shutdown()
        self._ended.set()
        self._threads[1].join()
        self._store.release(self.name)

    # --- the two threads ---

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = self._turn()
            except Exception:  # a full disk or a locked database must not end the worker
                logger.exception("the worker could not get or store jobs; it tries again")
                worked = False
                self._failures += 1
                self._stopping.wait(_PAUSE)
                self._store.release(self.name)
            if not worked:
                self._awake.wait(_LOOK)
                self._awake.clear()
        self._finish_writing()

    def _keep_leases(self) -> None:
        while not self._ended.wait(self._settings.lease / 4):
            try:
                self._store.renew(self.name, lease=self._settings.lease)
            except Exception:  # tried again at once; when it fails for long others take the jobs, which is right
                logger.exception("the leases could not be renewed")

    def _turn(self) -> bool:
        """Do one batch; returns whether there was one."""
        settings = self._settings
        if time.monotonic() - self._cleaned > _CLEAN:
            self._store.clean(keep_seconds=settings.keep_hours * 3600, keep_jobs=settings.keep_jobs)
            self._cleaned = time.monotonic()
        waiting = self._store.claimable()
        if waiting == 0:
            return False
        if waiting < settings.max_batch and settings.batch_wait:
            self._stopping.wait(settings.batch_wait)
        jobs = self._store.claim(
            self.name, lease=settings.lease, max_batch=settings.max_batch, max_weight=settings.max_pixels
        )
        if jobs:
            self._do(jobs)
        return bool(jobs)

    # --- a batch ---

    def _do(self, jobs: Sequence[Job]) -> None:
        """Do a batch; when it fails as a whole, each job alone, so that one cannot spoil the others."""
        for job in jobs:
            self._changed(job.id)
        start = time.monotonic()
        run = _Run(self._store, self.name, jobs, self._settings.time_limit, self._abandon, self._changed)
        try:
            stacks = self._call(jobs, run)
        except Exception as error:
            if len(jobs) > 1:
                logger.warning("a batch of %d failed (%s); its jobs are done one by one", len(jobs), error)
                for job in jobs:
                    if not self._abandon.is_set():
                        self._do([job])
                return
            self._note_failure(jobs[0], error)
            return
        self._failures = 0
        self._metrics.batch_size.observe(len(jobs))
        self._metrics.batch_seconds.labels(jobs[0].work.task).observe(time.monotonic() - start)
        if run.was_abandoned:
            return
        self._finish_writing()  # of the batch before: results do not pile up in memory
        for job, stack in zip(jobs, stacks, strict=True):
            if job.id in run.wanted:
                self._writing.append(self._writers.submit(self._store_result, job, stack, run.ran_out))

    def _call(self, jobs: Sequence[Job], run: "_Run") -> list[LayerStack]:
        """Call the model once for all jobs. Each has a generator of its own, so its noise is its own."""
        work = jobs[0].work
        pictures = [self._store.files.pictures(job.id) for job in jobs]
        output: Any = self._model.pipeline(
            task=work.task,
            images=pictures if pictures[0] else None,
            text=None if work.text is None else [str(job.work.text) for job in jobs],
            num_targets=work.layers,
            height=work.height,
            width=work.width,
            num_inference_steps=work.steps,
            true_cfg_scale=work.guidance,
            generator=[torch.Generator("cpu").manual_seed(job.work.seed) for job in jobs],
            callback_on_step_end=run.after_step,
        )
        for job, stack in zip(jobs, output.stacks, strict=True):
            stack.metadata |= {"seed": job.work.seed, "size": list(stack.size), **self._model.provenance}
        return output.stacks

    def _store_result(self, job: Job, stack: LayerStack, ran_out: bool) -> None:
        """Store what became of a job; runs in a thread of its own."""
        if ran_out:
            limit = f"the job took longer than {self._settings.time_limit:g} s; ask for fewer steps or a smaller size"
            self._note_end(job, self._store.fail(self.name, job, Problem(504, "TimeLimit", limit)), "failed")
            return
        try:
            pictures = self._store.files.pictures(job.id)
            self._store.files.store_result(job.id, refined(stack, job.work.task, pictures, job.work.refine))
        except Exception as error:
            self._note_failure(job, error)
            return
        self._note_end(job, self._store.finish(self.name, job), "done")

    def _note_failure(self, job: Job, error: Exception) -> None:
        problem = problem_of(error)
        if problem.status >= 500:
            logger.error("job %s failed", job.id, exc_info=error)
            self._failures += 1
        self._note_end(job, self._store.fail(self.name, job, problem), "failed")

    def _note_end(self, job: Job, counts: bool, state: str) -> None:
        if counts:
            self._metrics.jobs.labels(job.work.task, state).inc()
            self._metrics.job_seconds.labels(job.work.task).observe(max(0.0, time.time() - job.created))
        self._changed(job.id)

    def _finish_writing(self) -> None:
        writing, self._writing = self._writing, []
        for future in writing:
            future.result()


class _Run:
    """What happens between the sampling steps of a batch.

    Attributes:
        wanted: Ids of the jobs whose results are wanted.
        ran_out: The batch exceeded its time.
        was_abandoned: The service ends.
    """

    def __init__(
        self,
        store: JobStore,
        owner: str,
        jobs: Sequence[Job],
        time_limit: float,
        abandon: threading.Event,
        changed: Callable[[str], None],
    ) -> None:
        self._store, self._owner, self._abandon, self._changed = store, owner, abandon, changed
        self.wanted = {job.id for job in jobs}
        self.ran_out = self.was_abandoned = False
        self._deadline = time.monotonic() + time_limit
        self._reported = 0.0

    def after_step(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """The pipeline's callback: notes progress, and skips the remaining steps when they are for nothing."""
        now = time.monotonic()
        if now - self._reported >= _REPORT:
            self._reported = now
            self.wanted = self._store.report(self._owner, sorted(self.wanted), step + 1)
            for job_id in self.wanted:
                self._changed(job_id)
        self.ran_out = self.ran_out or now > self._deadline
        self.was_abandoned = self._abandon.is_set()
        if self.ran_out or self.was_abandoned or not self.wanted:
            pipe._interrupt = True
        return {}
