"""What every test needs of its process."""

import logging
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be tested in the background too: what a shell starts there ignores it, as do its children."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command run in this process sets how much is logged: its test must not silence those that follow."""
    logger = logging.getLogger("omnialpha")
    before = logger.level
    yield
    logger.setLevel(before)
