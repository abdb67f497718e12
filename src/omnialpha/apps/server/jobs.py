"""The records of the service: what a job asks for, and how far it is."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from omnialpha.apps.server.problems import Problem

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One task on one set of pictures.

    Attributes:
        task: Id of the task.
        text: Caption, for tasks that take one.
        seed: Same seed, same noise, whatever else is in the batch.
        steps: Sampling steps; None: the model's.
        guidance: True CFG scale; None: the model's.
        layers: Number of layers; None: the task's smallest.
        width: Of the result in pixels; None: the first picture's.
        height: Of the result in pixels; None: the first picture's.
        refine: Whether to bring layers to the input's resolution; None: where the model worked at a smaller size.
        format: In which the result is wanted; None: PNG for one layer, PSD for several.
    """

    task: str
    text: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    layers: int | None = None
    width: int | None = None
    height: int | None = None
    refine: bool | None = None
    format: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is at the moment.

    Attributes:
        id: 32 hexadecimal digits.
        work: What is asked for.
        state: "queued", "running", "done", "failed" or "cancelled".
        step: Sampling steps done.
        steps: Sampling steps in all.
        attempts: How often work on it was begun.
        created: When it was accepted, in seconds since 1970; so the two that follow.
        started: When work on it began.
        finished: When it ended.
        problem: Why it failed.
    """

    id: str
    work: Work
    state: State
    step: int
    steps: int
    attempts: int
    created: float
    started: float | None
    finished: float | None
    problem: Problem | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINISHED


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the queue has to know about a job.

    Attributes:
        key: Jobs with equal keys may be done in one batch.
        weight: Pixels of its pictures and results together, which is what its memory goes by.
        steps: Sampling steps in all.
    """

    key: str
    weight: int
    steps: int


COLUMNS = "id, work, state, step, steps, attempts, created, started, finished, problem"
"""What the store keeps of a job and `job_of` reads, as a list for SQL."""


def job_of(row: tuple[Any, ...]) -> Job:
    """A row of `COLUMNS` as a record."""
    job_id, work, state, step, steps, attempts, created, started, finished, problem = row
    return Job(
        id=job_id,
        work=Work(**json.loads(work)),
        state=state,
        step=step,
        steps=steps,
        attempts=attempts,
        created=created,
        started=started,
        finished=finished,
        problem=None if problem is None else Problem(**json.loads(problem)),
    )
