"""The queue: what is claimed together, what dead processes leave, what is forgotten."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from omnialpha.apps.server import store as store_module
from omnialpha.apps.server.jobs import Job, Plan, Work
from omnialpha.apps.server.problems import Problem, ServiceError
from omnialpha.apps.server.store import MAX_ATTEMPTS, JobStore
from omnialpha.imaging.layers import LayerStack
from stacks import sample_stack

Clock = Callable[[float], None]


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path, max_jobs=50, max_weight=10_000)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the store's clock on."""
    now = [1000.0]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def add(store: JobStore, *keys: str, weight: int = 10) -> list[Job]:
    picture = np.zeros((2, 3, 4), np.uint8)
    return store.add((Work(task="matting_auto"), Plan(key=key, weight=weight, steps=4), [picture]) for key in keys)


def claim(store: JobStore, owner: str = "a", max_batch: int = 4, max_weight: int = 1000) -> list[str]:
    return [job.id for job in store.claim(owner, lease=10, max_batch=max_batch, max_weight=max_weight)]


def test_a_batch_is_the_oldest_job_and_those_of_its_kind(store: JobStore) -> None:
    ids = [job.id for job in add(store, "x", "y", "x", "x", "y")]
    assert claim(store, max_batch=2) == [ids[0], ids[2]]
    assert claim(store, "b") == [ids[1], ids[4]]
    assert claim(store, "b") == [ids[3]]
    assert claim(store) == []


def test_a_batch_is_no_heavier_than_allowed_but_never_empty(store: JobStore) -> None:
    ids = [job.id for job in add(store, *"xxxx", weight=40)]
    assert claim(store, max_weight=100) == ids[:2]
    assert claim(store, max_weight=1) == [ids[2]]


def test_threads_never_claim_the_same_job(store: JobStore) -> None:
    ids = {job.id for job in add(store, *("xyz" * 10))}
    with ThreadPoolExecutor(4) as pool:
        claimed = [i for batch in pool.map(lambda k: claim(store, f"owner {k}", 2), range(30)) for i in batch]
    assert len(claimed) == len(ids)
    assert set(claimed) == ids


def test_jobs_of_a_dead_process_are_taken_over_one_by_one(store: JobStore, later: Clock) -> None:
    ids = [job.id for job in add(store, "x", "x")]
    assert claim(store, "dead") == ids
    later(6)
    store.renew("dead", lease=10)
    later(6)
    assert claim(store, "b") == []  # the lease was renewed
    later(5)
    assert claim(store, "b") == ids[:1]
    dead = store.get(ids[0])
    assert not store.finish("dead", dead)  # it lost the job: what it has made does not count
    assert store.report("dead", ids, 3) == {ids[1]}
    assert store.finish("b", store.get(ids[0]))
    assert store.get(ids[0]).state == "done"


def test_a_job_that_kills_its_process_again_and_again_fails(store: JobStore, later: Clock) -> None:
    (job,) = add(store, "x")
    for attempt in range(MAX_ATTEMPTS):
        assert claim(store, f"process {attempt}") == [job.id]
        later(11)
    assert claim(store) == []
    failed = store.get(job.id)
    assert failed.state == "failed"
    assert failed.problem is not None
    assert failed.problem.kind == "Abandoned"


def test_released_jobs_are_queued_as_if_never_begun(store: JobStore) -> None:
    ids = [job.id for job in add(store, "x", "x")]
    claim(store)
    store.release("a")
    assert [store.get(i).attempts for i in ids] == [0, 0]
    assert claim(store, "b") == ids


def test_nothing_is_kept_of_jobs_for_which_there_is_no_room(store: JobStore, tmp_path: Path) -> None:
    add(store, *("x" * 49))
    with pytest.raises(ServiceError, match="49 jobs are waiting"):
        add(store, "x", "x")
    add(store, "x")
    assert store.counts() == {"queued": 50}
    assert len(list((tmp_path / "inputs").iterdir())) == 50


def test_waiting_pixels_are_bounded_too(store: JobStore) -> None:
    add(store, "x", weight=9_000)
    with pytest.raises(ServiceError, match="try again"):
        add(store, "x", weight=2_000)
    add(store, "x", weight=1_000)


def test_old_and_surplus_results_are_forgotten_with_their_files(store: JobStore, later: Clock, tmp_path: Path) -> None:
    def done(key: str) -> Job:
        (job,) = add(store, key)
        claim(store)
        store.files.store_result(job.id, sample_stack())
        store.finish("a", job)
        later(10)
        return store.get(job.id)

    jobs = [done(key) for key in "xyz"]
    (waiting,) = add(store, "w")
    assert store.clean(keep_seconds=100, keep_jobs=2) == 1
    assert store.clean(keep_seconds=15, keep_jobs=2) == 1
    for job in jobs[:2]:
        with pytest.raises(ServiceError, match="kept for a while"):
            store.get(job.id)
    assert [path.name for path in (tmp_path / "results").iterdir()] == [jobs[2].id]
    assert isinstance(store.files.result(jobs[2].id), LayerStack)
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == [waiting.id]


def test_what_killed_processes_left_is_swept(store: JobStore, tmp_path: Path) -> None:
    for folder in ("inputs", "results", "uploads"):
        for name, age in (("old", 7200), ("new", 0)):
            path = tmp_path / folder / name
            path.mkdir()
            os.utime(path, (path.stat().st_mtime - age,) * 2)
    store.clean(keep_seconds=100, keep_jobs=2)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["new"] * 3


def test_problems_and_pictures_come_back_as_they_went_in(store: JobStore) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    (job,) = store.add(
        [(Work(task="matting_auto", text="täg", seed=2**63 - 1), Plan(key="", weight=1, steps=2), [pixels])]
    )
    assert np.array_equal(np.asarray(store.files.pictures(job.id)[0]), pixels)
    claim(store)
    problem = Problem(422, "InputError", "one line", 3)
    assert store.fail("a", job, problem)
    found = store.get(job.id)
    assert (found.problem, found.work) == (problem, job.work)
    assert store.files.pictures(job.id) == []


@pytest.mark.parametrize(("network", "mode"), [(False, "wal"), (True, "delete")])
def test_journal(tmp_path: Path, network: bool, mode: str) -> None:
    JobStore(tmp_path, max_jobs=1, max_weight=1, network=network)
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == (mode,)
