"""Which jobs share a call: those of a kind, as many as make up one large picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from omnialpha.apps.grouping import WAITING, Ready, grouped
from omnialpha.apps.jobs import Job
from omnialpha.apps.settings import Settings
from omnialpha.tasks import task


def ready(name: str, size: tuple[int, int] = (512, 512), task_id: str = "matting_auto", layers: int = 1) -> Ready:
    job = Job(task=task(task_id), images=(Path(name),), num_targets=layers)
    return Ready(job=job, target=Path(f"{name}.out"), pictures=[Image.new("RGBA", size)])


def names(jobs: list[Ready], **settings: Any) -> list[str]:
    groups = grouped(jobs, Settings(**settings))
    return ["".join(job.job.name for job in group) for group in groups]


def test_a_call_holds_as_many_small_pictures_as_make_up_a_large_one() -> None:
    """1024² with one result is one call: four of 512², one of 2000²."""
    assert names([ready(name) for name in "abcdefghi"]) == ["abcd", "efgh", "i"]
    assert names([ready(name, (2000, 2000)) for name in "abc"]) == ["a", "b", "c"]
    three_layers = [ready(name, task_id="decomposition_auto", layers=3) for name in "abc"]
    assert names(three_layers) == ["ab", "c"]


def test_the_size_of_the_results_counts() -> None:
    pictures = [ready(name, (64, 64)) for name in "abc"]
    assert names(pictures) == ["abc"]
    assert names(pictures, size="1024") == ["a", "b", "c"]


def test_other_sizes_tasks_and_layers_are_other_calls() -> None:
    jobs = [
        ready("a"),
        ready("b", (512, 256)),
        ready("c"),
        ready("d", task_id="removal_auto"),
        ready("e", (512, 256)),
        ready("f", task_id="decomposition_auto", layers=2),
        ready("g", task_id="decomposition_auto", layers=3),
    ]
    assert names(jobs) == ["ac", "be", "d", "f", "g"]


def test_the_caller_may_say_how_many() -> None:
    assert names([ready(name) for name in "abcde"], batch=2) == ["ab", "cd", "e"]
    assert names([ready(name, (3000, 3000)) for name in "abcde"], batch=3) == ["abc", "de"]


def test_pictures_that_wait_do_not_pile_up() -> None:
    """A job is read only after the groups before it are done."""
    taken: list[int] = []

    def endless() -> Iterator[Ready]:
        for k in range(3 * WAITING):
            taken.append(k)
            yield ready("x", (16 + k, 16))  # all of different sizes

    first = next(iter(grouped(endless(), Settings())))
    assert first[0].pictures[0].size == (16, 16)
    assert len(taken) == WAITING
