"""Time of a call's pieces, ours and stock alike, marked where each piece begins and ends.

Marks are processor seconds (`processor_clock`) or CUDA events (`cuda_clock`), which do not make the host wait.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch


@dataclass(frozen=True)
class Clock:
    """How to take a mark, and the seconds between two of them."""

    mark: Callable[[], Any]
    between: Callable[[Any, Any], float]


processor_clock = Clock(mark=time.process_time, between=lambda start, end: end - start)


def _cuda_mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


cuda_clock = Clock(mark=_cuda_mark, between=lambda start, end: start.elapsed_time(end) / 1000)
"""Read the marks only after `torch.cuda.synchronize()`."""


class Spans:
    """When each piece began and ended, once per time it ran."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.marks: dict[str, list[list[Any]]] = {name: [] for name in ("vlm", "encode", "denoise", "decode")}

    def begin(self, name: str) -> None:
        """Mark the beginning of a piece."""
        self.marks[name].append([self._clock.mark()])

    def end(self, name: str) -> None:
        """Mark its end."""
        self.marks[name][-1].append(self._clock.mark())

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call with a mark before and after."""

        def marked(*args: Any, **kwargs: Any) -> Any:
            self.begin(name)
            result = call(*args, **kwargs)
            self.end(name)
            return result

        return marked

    def seconds(self) -> dict[str, float]:
        """Seconds inside each piece, all its runs together."""
        return {name: sum(self._clock.between(*span) for span in spans) for name, spans in self.marks.items()}

    def from_first_to_last(self, name: str) -> float:
        """Seconds from the beginning of a piece's first run to the end of its last."""
        return self._clock.between(self.marks[name][0][0], self.marks[name][-1][1])


@contextmanager
def timed_pieces(pipe: Any, clock: Clock) -> Iterator[Spans]:
    """Inside the block every call of a Qwen-Image pipeline leaves marks; `Spans.seconds` adds them up."""
    spans = Spans(clock)
    modules = {
        "vlm": (pipe.text_encoder, pipe.text_encoder),
        "denoise": (pipe.transformer.img_in, pipe.transformer.proj_out),
    }
    with ExitStack() as stack:
        for name, (first, last) in modules.items():
            stack.callback(first.register_forward_pre_hook(lambda *_, name=name: spans.begin(name)).remove)
            stack.callback(last.register_forward_hook(lambda *_, name=name: spans.end(name)).remove)
        for name in ("encode", "decode"):
            stack.enter_context(mock.patch.object(pipe.vae, name, spans.around(name, getattr(pipe.vae, name))))
        yield spans
