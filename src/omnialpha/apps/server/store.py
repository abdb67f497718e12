"""The queue of accepted jobs: rows in SQLite; pictures and results are files beside it.

    DATA/jobs.sqlite      one row a job (write-ahead log)
    DATA/inputs/ID/       0.npy, 1.npy, …: the decoded pictures, until the job is finished
    DATA/results/ID/      the result as a folder of PNGs
    DATA/uploads/         what is being received or sent

A job is accepted when its pictures and its row are on disk. Any number of threads and processes may share a store:
a worker claims jobs for a lease that it renews, so the jobs of a killed process are taken over when the lease ends.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from omnialpha.apps.server.job_files import JobFiles
from omnialpha.apps.server.jobs import COLUMNS, FINISHED, Job, Plan, Work, job_of
from omnialpha.apps.server.problems import Problem, not_found, queue_full

MAX_ATTEMPTS = 3
"""A job whose process died so often is taken for the cause."""

_PATIENCE = 30.0  # seconds to wait for another process's write
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, work TEXT NOT NULL, key TEXT NOT NULL,
    weight INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'queued', step INTEGER NOT NULL DEFAULT 0,
    steps INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, finished REAL,
    problem TEXT, owner TEXT, lease REAL
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number)
"""
_CLAIMABLE = "(state = 'queued' OR (state = 'running' AND lease < :now))"


class JobStore:
    """The jobs of a data folder.

    Args:
        folder: Made when it does not exist.
        max_jobs: Jobs that may wait.
        max_weight: Weight of all jobs that wait.
        network: The folder is on a network file system, where SQLite's write-ahead log does not work.

    Attributes:
        files: The pictures and results.
    """

    def __init__(self, folder: Path, *, max_jobs: int, max_weight: int, network: bool = False) -> None:
        self._max_jobs, self._max_weight = max_jobs, max_weight
        self.files = JobFiles(folder)
        self._file = folder / "jobs.sqlite"
        with self._database() as database:
            database.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
            database.executescript(_SCHEMA)

    # --- accepting and asking ---

    def add(self, works: Iterable[tuple[Work, Plan, Sequence[np.ndarray]]]) -> list[Job]:
        """Accept jobs, all of them or none; they are on disk when this returns.

        Args:
            works: For each job what is asked for, what the queue has to know, and its pictures, (H, W, 4) `uint8`.
                Taken one by one, so that the pictures of one job only are in memory.

        Raises:
            ServiceError: There is no room for all of them.
            OutputError: The pictures cannot be stored.
        """
        rows: list[tuple[str, str, str, int, int, float]] = []
        try:
            for work, plan, pictures in works:
                job_id = secrets.token_hex(16)
                rows.append((job_id, json.dumps(asdict(work)), plan.key, plan.weight, plan.steps, time.time()))
                self.files.store_pictures(job_id, pictures)
            with self._database() as database:
                database.execute("BEGIN IMMEDIATE")  # between counting and adding nobody else may add
                self._check_room(database, len(rows), sum(row[3] for row in rows))
                database.executemany(
                    "INSERT INTO jobs (id, work, key, weight, steps, created) VALUES (?, ?, ?, ?, ?, ?)", rows
                )
        except BaseException:
            for row in rows:
                self.files.forget_pictures(row[0])
            raise
        return [self.get(row[0]) for row in rows]

    def check_room(self) -> None:
        """Refuse jobs before anything is received, when there is no room for them.

        Raises:
            ServiceError: The queue is full.
        """
        with self._database(durable=False) as database:
            self._check_room(database, 1, 0)

    def get(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            ServiceError: There is no such job.
        """
        with self._database(durable=False) as database:
            row = database.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise not_found(job_id)
        return job_of(row)

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self._database(durable=False) as database:
            return dict(database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def cancel(self, job_id: str) -> Job:
        """End a job that is not finished; whoever works on it notices at the next step.

        Returns:
            The job; unchanged when it was finished already.

        Raises:
            ServiceError: There is no such job.
        """
        with self._database() as database:
            database.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ?, owner = NULL"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (time.time(), job_id),
            )
        return self.get(job_id)

    # --- working ---

    def claimable(self) -> int:
        """Number of jobs that wait for a worker."""
        with self._database(durable=False) as database:
            query = f"SELECT count(*) FROM jobs WHERE {_CLAIMABLE}"
            return int(database.execute(query, {"now": time.time()}).fetchone()[0])

    def claim(self, owner: str, *, lease: float, max_batch: int, max_weight: int) -> list[Job]:
        """Take the job that waits longest, and those that may share its batch.

        A job that was begun before and not ended is done alone: should it be what killed its process, it kills no
        other. After `MAX_ATTEMPTS` it fails.

        Args:
            owner: Who works on them.
            lease: Seconds after which others may take them, if the lease is not renewed.
            max_batch: Jobs of a batch.
            max_weight: Weight of a batch; the first job is taken whatever it weighs.

        Returns:
            The jobs, in the order in which they came; empty when nothing waits.
        """
        now = time.time()
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            problem = Problem(500, "Abandoned", f"the service stopped {MAX_ATTEMPTS} times while working on this job")
            database.execute(
                f"UPDATE jobs SET state = 'failed', finished = :now, problem = :problem"
                f" WHERE {_CLAIMABLE} AND attempts >= :most",
                {"now": now, "problem": json.dumps(asdict(problem)), "most": MAX_ATTEMPTS},
            )
            first = database.execute(
                f"SELECT number, key, weight, attempts FROM jobs WHERE {_CLAIMABLE} ORDER BY number LIMIT 1",
                {"now": now},
            ).fetchone()
            if first is None:
                return []
            numbers = [first[0]]
            if first[3] == 0:
                numbers += _companions(database, first, max_batch, max_weight)
            marks = ", ".join("?" * len(numbers))
            database.execute(
                "UPDATE jobs SET state = 'running', step = 0, attempts = attempts + 1, started = ?, owner = ?,"
                f" lease = ? WHERE number IN ({marks})",
                (now, owner, now + lease, *numbers),
            )
            query = f"SELECT {COLUMNS} FROM jobs WHERE number IN ({marks}) ORDER BY number"
            return [job_of(row) for row in database.execute(query, numbers)]

    def renew(self, owner: str, *, lease: float) -> None:
        """Keep the jobs of an owner for another lease."""
        with self._database(durable=False) as database:
            database.execute(
                "UPDATE jobs SET lease = ? WHERE owner = ? AND state = 'running'", (time.time() + lease, owner)
            )

    def report(self, owner: str, ids: Sequence[str], step: int) -> set[str]:
        """Note progress.

        Args:
            owner: Who works on them.
            ids: Jobs of a batch.
            step: Sampling steps done.

        Returns:
            Those that are still wanted: neither cancelled nor taken over.
        """
        marks = ", ".join("?" * len(ids))
        with self._database(durable=False) as database:
            query = f"UPDATE jobs SET step = ? WHERE id IN ({marks}) AND owner = ? AND state = 'running' RETURNING id"
            return {job_id for (job_id,) in database.execute(query, (step, *ids, owner))}

    def finish(self, owner: str, job: Job) -> bool:
        """Note that the result of a job is stored; returns False when it was cancelled or taken over meanwhile."""
        return self._end(owner, job, None)

    def fail(self, owner: str, job: Job, problem: Problem) -> bool:
        """Store why a job failed; returns False when it was cancelled or taken over meanwhile."""
        return self._end(owner, job, problem)

    def release(self, owner: str) -> None:
        """Queue the jobs of an owner again, as if it had never begun them."""
        with self._database() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', step = 0, attempts = attempts - 1, owner = NULL"
                " WHERE owner = ? AND state = 'running'",
                (owner,),
            )

    def clean(self, *, keep_seconds: float, keep_jobs: int) -> int:
        """Forget finished jobs, and what killed processes left behind.

        Args:
            keep_seconds: How long a finished job is kept.
            keep_jobs: How many are kept, the latest.

        Returns:
            Number of jobs forgotten.
        """
        finished = f"state IN ({', '.join(repr(state) for state in FINISHED)})"
        with self._database() as database:
            forgotten = database.execute(
                f"DELETE FROM jobs WHERE {finished} AND (finished < ? OR number NOT IN (SELECT number FROM jobs"
                f" WHERE {finished} ORDER BY finished DESC LIMIT ?)) RETURNING id",
                (time.time() - keep_seconds, keep_jobs),
            ).fetchall()
            unfinished = {i for (i,) in database.execute(f"SELECT id FROM jobs WHERE NOT {finished}")}
            done = {i for (i,) in database.execute("SELECT id FROM jobs WHERE state = 'done'")}
        gone = {job_id for (job_id,) in forgotten}
        self.files.sweep(gone, unfinished, done)
        return len(gone)

    # --- inside ---

    def _end(self, owner: str, job: Job, problem: Problem | None) -> bool:
        state, text = ("done", None) if problem is None else ("failed", json.dumps(asdict(problem)))
        with self._database() as database:
            changed = database.execute(
                "UPDATE jobs SET state = ?, problem = ?, finished = ?,"
                " step = CASE ? WHEN 'done' THEN steps ELSE step END WHERE id = ? AND owner = ? AND state = 'running'",
                (state, text, time.time(), state, job.id, owner),
            ).rowcount
        if changed:
            self.files.forget_pictures(job.id)
        return bool(changed)

    def _check_room(self, database: sqlite3.Connection, count: int, weight: int) -> None:
        """Refuse more jobs than may wait, or more pixels than the disk shall hold."""
        waiting, waiting_weight = database.execute(
            "SELECT count(*), ifnull(sum(weight), 0) FROM jobs WHERE state = 'queued'"
        ).fetchone()
        if waiting + count <= self._max_jobs and (not waiting or waiting_weight + weight <= self._max_weight):
            return
        # What the last jobs took on average, each its share of its batch, tells how fast the queue moves.
        (pace,) = database.execute(
            "SELECT (max(finished) - min(started)) / count(*) FROM (SELECT started, finished FROM jobs"
            " WHERE state = 'done' ORDER BY finished DESC LIMIT 20)"
        ).fetchone()
        raise queue_full(waiting, retry_after=max(1, min(600, round((pace or 1) * count))))

    @contextmanager
    def _database(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection for one call (connections do not go from thread to thread), committed at the end.

        Args:
            durable: Wait until the disk has it. Without, a power cut may undo the call, a killed process does not.
        """
        with closing(sqlite3.connect(self._file, timeout=_PATIENCE)) as database:
            database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with database:
                yield database


def _companions(
    database: sqlite3.Connection, first: tuple[int, str, int, int], max_batch: int, max_weight: int
) -> list[int]:
    """Numbers of fresh jobs for the batch of the first one."""
    number, key, weight, _ = first
    fitting = min(max_batch, max(1, max_weight // max(1, weight))) - 1  # equal keys weigh the same
    query = "SELECT number FROM jobs WHERE state = 'queued' AND attempts = 0 AND key = ? AND number > ?"
    return [n for (n,) in database.execute(f"{query} ORDER BY number LIMIT ?", (key, number, fitting))]
