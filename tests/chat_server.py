"""An OpenAI-compatible service on 127.0.0.1 that answers as told, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from omnialpha.evaluation.chat import Message

COMPLETION = {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}


@dataclass
class Fault:
    """One wrong answer: a status with a body and headers, sent after a delay; cut off half-way when asked.

    ``rest`` asks for so many seconds of rest, as a date.
    """

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    rest: float | None = None


@dataclass
class Service:
    """What is answered and what happened.

    Attributes:
        answer: request to the text of the reply.
        faults: what to do instead, one for each request, until none is left.
        usage: tokens to bill, None to say nothing about tokens.
        delay: seconds before a good answer.
        requests: bodies of all requests, in order, with their times and the value of their Authorization header.
        paid: bodies of the requests that were answered well.
        busy: requests under way, and the most there were at a time.
        url: base address.
    """

    answer: Callable[[Message], str] = lambda body: "yes"
    faults: deque[Fault] = field(default_factory=deque)
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 1000, "completion_tokens": 20})
    delay: float = 0.0
    requests: list[tuple[Message, float, str | None]] = field(default_factory=list)
    paid: list[Message] = field(default_factory=list)
    busy: list[int] = field(default_factory=lambda: [0, 0])
    url: str = ""


@contextmanager
def serve(service: Service) -> Iterator[Service]:
    """Run the server in a thread while the block lasts."""

    class Handler(_Handler):
        served = service
        lock = threading.Lock()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Service
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served = self.served
        with self.lock:
            served.requests.append((body, time.monotonic(), self.headers["Authorization"]))
            fault = served.faults.popleft() if served.faults else None
            served.busy[0] += 1
            served.busy[1] = max(served.busy)
        try:
            if fault is None:
                time.sleep(served.delay)
                message = {"role": "assistant", "content": served.answer(body)}
                usage = {} if served.usage is None else {"usage": served.usage}
                fault = Fault(body=json.dumps({"choices": [{"message": message}], **usage}))
                with self.lock:
                    served.paid.append(body)
            self._send(fault)
        except (BrokenPipeError, ConnectionResetError):  # the client was killed, or gave up
            self.close_connection = True
        finally:
            with self.lock:
                served.busy[0] -= 1

    def _send(self, fault: Fault) -> None:
        time.sleep(fault.delay)
        content = fault.body.encode()
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        if fault.rest is not None:
            self.send_header("Retry-After", formatdate(time.time() + fault.rest, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault.cut else content)
        if fault.cut:
            self.close_connection = True
