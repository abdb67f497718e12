"""`omnialpha serve` as a process that is killed, restarted and told to end."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import serving
import tiny
from omnialpha.apps.server.store import JobStore
from processes import free_port

Start = Callable[[float], tuple[Any, httpx2.Client]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begin the command, with so many seconds for a sampling step, and wait until it answers."""
    running = []

    def begin(seconds: float) -> tuple[Any, httpx2.Client]:
        port = free_port()
        process = serving.start(tmp_path, port, seconds)
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        running.append(process)
        _until(lambda: _answers(client))
        return process, client

    yield begin
    for process in running:
        process.kill()
        process.join()


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx2.TransportError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _submit(client: httpx2.Client, seed: int) -> str:
    picture = io.BytesIO()
    tiny.picture(seed).save(picture, "PNG")
    files = {"image": ("photo.png", picture.getvalue())}
    response = client.post("/v1/jobs?task=matting_auto", files=files, data={"seed": str(seed)})
    assert response.status_code == 202, response.text
    return str(response.json()["jobs"][0]["id"])


def _states(client: httpx2.Client, jobs: list[str]) -> list[str]:
    return [client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs]


def test_no_accepted_job_is_lost_by_a_kill_or_by_an_end(start: Start, tmp_path: Path) -> None:
    process, client = start(0.5)
    jobs = [_submit(client, seed) for seed in range(6)]
    _until(lambda: "running" in _states(client, jobs))
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    process, client = start(0.2)
    _until(lambda: "running" in _states(client, jobs))
    os.kill(process.pid, signal.SIGTERM)  # what runs is finished, what waits is kept
    process.join(30)
    assert process.exitcode == -signal.SIGTERM  # as uvicorn ends: with the signal, once all is done
    store = JobStore(tmp_path, max_jobs=9, max_weight=9)
    counts = store.counts()
    assert counts["queued"] > 0
    assert counts["done"] > 0
    assert (
        counts["queued"] + counts["done"] + counts.get("running", 0) == 6
    )  # running: the killed process's, until its lease ends

    process, client = start(0.0)
    _until(lambda: set(_states(client, jobs)) == {"done"})
    for seed, job in enumerate(jobs):
        assert store.files.result(job).metadata["seed"] == seed
        assert client.get(f"/v1/jobs/{job}/result").content.startswith(b"\x89PNG")
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
