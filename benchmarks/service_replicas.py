"""Kill one of two replicas of deploy/ray_serve.py under load on a local Ray; writes service_replicas.json.

    python benchmarks/service_replicas.py [--jobs 60]

Jobs are accepted by POST /v1/jobs over several connections; when a third of them is accepted, the process of the
replica that works on the oldest running job is killed with SIGKILL. Requests that break with it are sent again: they
were not accepted. In the end every accepted job must be done.
"""

import argparse
import importlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).resolve().parent.parent
picture = importlib.import_module("service").picture  # the script beside this one
RESULT = Path(__file__).with_suffix(".json")


def owner_of_a_running_job(database: Path) -> str:
    """Name of a replica's worker, which holds its process id."""
    with sqlite3.connect(database, timeout=30) as connection:
        for _ in range(3000):
            row = connection.execute("SELECT owner FROM jobs WHERE state = 'running' ORDER BY number").fetchone()
            if row is not None:
                return str(row[0])
            time.sleep(0.01)
    raise SystemExit("no job is running")


def run(jobs: int, folder: Path) -> dict[str, Any]:
    os.environ |= {
        "OMNIALPHA_DATA": str(folder),
        "OMNIALPHA_REPLICAS": "2",
        "OMNIALPHA_LEASE": "3",
        "OMNIALPHA_CPUS": "0.5",
    }
    import ray
    from ray import serve

    sys.path[:0] = [str(ROOT / "deploy")]
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
    application = importlib.import_module("ray_serve")  # in deploy/, which is no package

    serve.start(http_options={"host": "127.0.0.1", "port": 8123})
    serve.run(application.app)
    accepted: list[str] = []
    broken: Counter[str] = Counter()
    lock, third = threading.Lock(), threading.Event()

    def submit(seed: int) -> None:
        while True:
            try:
                with httpx2.Client(base_url="http://127.0.0.1:8123", trust_env=False, timeout=60) as client:
                    files = {"image": ("x.png", picture(seed))}
                    answer = client.post("/v1/jobs?task=matting_auto", files=files, data={"seed": str(seed)})
                if answer.status_code == 202:
                    break
                broken[str(answer.status_code)] += 1
            except httpx2.TransportError as error:
                broken[type(error).__name__] += 1
            time.sleep(0.2)
        with lock:
            accepted.append(answer.json()["jobs"][0]["id"])
            if len(accepted) >= jobs // 3:
                third.set()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(submit, seed) for seed in range(jobs)]
        third.wait()
        victim = owner_of_a_running_job(folder / "jobs.sqlite")
        os.kill(int(victim.split("-")[-2]), signal.SIGKILL)
        at_kill = len(accepted)
        for future in futures:
            future.result()
    states: list[str] = []
    deadline = time.monotonic() + 240
    with sqlite3.connect(folder / "jobs.sqlite", timeout=30) as connection:
        while time.monotonic() < deadline:
            rows = dict(connection.execute("SELECT id, state FROM jobs").fetchall())
            states = [rows.get(job, "lost") for job in accepted]
            if set(states) == {"done"}:
                break
            time.sleep(0.5)
        attempts = dict(connection.execute("SELECT attempts, count(*) FROM jobs GROUP BY attempts").fetchall())
        owners = connection.execute("SELECT count(DISTINCT owner) FROM jobs").fetchone()[0]
    serve.shutdown()
    ray.shutdown()
    return {
        "replicas": 2,
        "accepted": len(accepted),
        "accepted_at_the_kill": at_kill,
        "sent_again": dict(broken),
        "states": dict(Counter(states)),
        "jobs_by_attempts": attempts,
        "workers_that_finished_jobs": owners,
        "ray": ray.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {"command": " ".join(["python", *sys.argv]), **run(options.jobs, Path(folder))}
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
