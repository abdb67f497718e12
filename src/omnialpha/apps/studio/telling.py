"""What the page says: results, progress, and errors as one line, never a traceback."""

import functools
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

from omnialpha.apps.server.problems import problem_of

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""Part of the page → its new value or properties."""


def said(text: str) -> str:
    """A line for the page.

    >>> said("<b>")
    '<p role="status">&lt;b&gt;</p>'
    """
    return f'<p role="status">{html.escape(text)}</p>'


def progress(text: str, done: int, total: int) -> str:
    """A line with a bar.

    Args:
        text: What is being done.
        done: Steps done.
        total: Steps in all; 0 for a bar without an end.
    """
    numbers = f' value="{done}" max="{total}"' if total else ""
    return f'<p role="status">{html.escape(text)}</p><progress{numbers}></progress>'


def problem_line(error: Exception) -> str:
    """A line about an error; of one that the library does not know only that it happened, its traceback is logged."""
    problem = problem_of(error)
    if problem.status >= 500:
        logger.error("an action of the studio failed", exc_info=error)
    return f'<p class="problem" role="alert">{html.escape(problem.message)}</p>'


def told(failed: Callable[[Any], Updates]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn the errors of an action, a method that returns or yields updates, into a line on the page.

    Args:
        failed: Gets the action's object; returns what else to update after an error.
    """

    def decorate(action: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(action)
        def once(self: Any, *values: Any) -> Updates:
            try:
                updates: Updates = action(self, *values)
                return updates
            except Exception as error:  # the page must say something, whatever it is
                return {self.page.status: problem_line(error)} | failed(self)

        @functools.wraps(action)
        def steps(self: Any, *values: Any) -> Iterator[Updates]:
            try:
                yield from action(self, *values)
            except Exception as error:
                yield {self.page.status: problem_line(error)} | failed(self)

        return steps if inspect.isgeneratorfunction(action) else once

    return decorate


def nothing_else(_: Any) -> Updates:
    """After an error only the line changes."""
    return {}
