"""`omnialpha serve` with a tiny model, in processes that can be killed and begin in a second."""

from __future__ import annotations

import inspect
import multiprocessing
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

# Not forks of the test's own process: its threads may hold locks, of SQLite for one, which nobody would give back.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["omnialpha.pipeline", "omnialpha.apps.server.app", "transformers", "peft"])


def start(data: Path, port: int, seconds: float) -> ForkServerProcess:
    """Begin the command, with so many seconds for a sampling step."""
    process = _context.Process(target=_serve, args=(data, port, seconds))
    process.start()
    return process


def _serve(data: Path, port: int, seconds: float) -> None:
    import omnialpha
    import tiny
    from omnialpha.apps.serve import serve

    pipeline = tiny.pipeline()
    step = pipeline.scheduler.step

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return step(*args, **options)

    pipeline.scheduler.step = slow
    omnialpha.load = lambda *args, **options: pipeline
    defaults = {name: p.default for name, p in inspect.signature(serve).parameters.items() if name != "port"}
    limits: dict[str, Any] = {"max_batch": 2, "batch_wait": 0.0, "lease": 0.5, "grace": 20.0}
    serve(port=port, **(defaults | limits | {"data": data}))
