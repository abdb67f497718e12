"""Forked processes for the tests: real ones, that can be killed, without a new interpreter's seconds of imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
from accelerate.state import AcceleratorState


def fork(function: Callable[[], None], *, output: Path | None = None) -> ForkProcess:
    """Start a function in a forked process; what it writes to stdout and stderr goes to a file when one is given."""

    def run() -> None:
        torch.set_num_threads(1)  # threads do not survive a fork
        AcceleratorState._reset_state(reset_partial_state=True)
        if output is not None:
            with output.open("wb") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        function()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    return child


def fork_group(function: Callable[[], None], *, world: int, port: int) -> list[ForkProcess]:
    """Start a function in several forked processes that accelerate joins through gloo."""

    def member(rank: int) -> Callable[[], None]:
        def run() -> None:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
            }  # fmt: skip
            function()

        return run

    return [fork(member(rank)) for rank in range(world)]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
