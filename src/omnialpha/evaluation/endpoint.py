"""A client of OpenAI-compatible chat endpoints that is patient with the service and never pays twice for an answer.

Every reply is written to a folder as soon as it arrives, under the hash of its request. The same request, made again
after a crash or in a later run, is answered from there. What is lost when a process is killed is at most the answers
that were still on their way.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from omnialpha.errors import EndpointError, InputError, RefusedError
from omnialpha.evaluation.chat import Message, Replies, Reply, Usage
from omnialpha.extras import require

logger = getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_REFUSED = (400, 413, 415, 422)  # something about this request; others may be fine
_LATER = (408, 409, 425, 429)  # and all of 500 and above
_FACTOR = 2.0  # of one wait to the next


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """Which model, and how to ask it; belongs to every result. The key is not part of it.

    Attributes:
        url: Base address, as "https://api.openai.com/v1"; "/chat/completions" is appended.
        model: Name of the model there.
        parameters: Sent with every request: temperature, max_tokens, seed and the like, as the service names them.
        timeout: Seconds without a byte after which a request is given up and tried again.
        retries: How often a request is tried again.
        first_wait: Seconds before the first retry; each further wait is about twice as long.
        longest_wait: A service that asks for a longer wait, in seconds, ends the run with an error instead.
        requests_per_minute: Pace that is never exceeded; None for as fast as answers arrive.
        input_price: Price of a million input tokens, in any currency.
        output_price: Price of a million output tokens.
        budget: No request is made once the replies of this run have cost so much; those under way still arrive.

    Raises:
        InputError: A value is impossible, or there is a budget without prices.
    """

    url: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    retries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 300.0
    requests_per_minute: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f'"{self.url}" is no address; give one that begins with https:// and ends in /v1')
        if reserved := {"model", "messages", "stream"} & set(self.parameters):
            raise InputError(f"the parameters must not set {' or '.join(sorted(reserved))}; leave that out")
        if (self.input_price is None) != (self.output_price is None):
            raise InputError("give the prices of input and of output tokens, or neither")
        if self.budget is not None and self.input_price is None:
            raise InputError("a budget needs the prices of input and output tokens; give both")
        numbers = (self.timeout, self.first_wait, self.longest_wait, self.requests_per_minute or 1)
        if min(numbers) <= 0 or self.retries < 0 or min(self.input_price or 0, self.output_price or 0) < 0:
            raise InputError("times and paces must be above 0, retries and prices not below; correct the settings")

    def cost(self, usage: Usage) -> float | None:
        """What some replies cost.

        Args:
            usage: Their tokens.

        Returns:
            The cost in the currency of the prices, without replies whose tokens are not known; None without prices.

        >>> settings = EndpointSettings(url="https://host/v1", model="m", input_price=2.5, output_price=10)
        >>> settings.cost(Usage(replies=1, input_tokens=1_000_000, output_tokens=50_000))
        3.0
        """
        if self.input_price is None or self.output_price is None:
            return None
        return (usage.input_tokens * self.input_price + usage.output_tokens * self.output_price) / 1e6


class Endpoint:
    """A model behind an address. `ask` may be called from many threads.

    Args:
        settings: Which model, and how to ask it.
        cache: Folder of replies; made when it does not exist. Runs may share it, also at the same time.
        api_key: Sent as bearer token; None for services without keys.

    Attributes:
        paid: What this object has asked the service for, without what the cache answered.
    """

    def __init__(self, settings: EndpointSettings, *, cache: str | Path, api_key: str | None = None) -> None:
        self._http = require("httpx2", extra="endpoint")
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._client = self._http.Client(timeout=settings.timeout, headers=headers)
        self._address = f"{settings.url.rstrip('/')}/chat/completions"
        self._replies = Replies(cache)
        self._lock = threading.Lock()
        self._next_turn = 0.0  # monotonic time before which no thread sends anything
        self._stop = threading.Event()
        self.settings = settings
        self.paid = Usage()

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End waits in other threads and give the connections back."""
        self._stop.set()
        self._client.close()

    def ask(self, messages: Sequence[Message]) -> Reply:
        """Get the answer to a conversation, from the cache or from the service.

        Args:
            messages: As the API has them: role and content; see `chat.user_message`.

        Returns:
            The reply, which is on disk by now.

        Raises:
            RefusedError: The service does not accept this request.
            EndpointError: It does not answer, or the budget is spent; asking for more is pointless.
            OutputError: The reply cannot be stored.
        """
        body = {"model": self.settings.model, **self.settings.parameters, "messages": list(messages)}
        stored = self._replies.find(body)
        if stored is not None:
            return stored
        reply = self._replies.store(body, self._address, self._post(body))
        with self._lock:
            self.paid += reply.usage
        if reply.usage.unmetered and self.settings.budget is not None:
            raise EndpointError(
                f"{self._address}: does not count its tokens, so no budget can be kept; run without one"
            )
        return reply

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], workers: int
    ) -> Iterator[tuple[Item, Result | RefusedError]]:
        """Apply a function that asks this endpoint to many items at once.

        Args:
            function: Called from several threads.
            items: Its arguments.
            workers: Number of threads, and so of requests at a time.

        Yields:
            Item and result in the order in which they are ready; for a refused request the error in the result's place.

        Raises:
            Exception: Whatever else the function raises. Items not begun are dropped, requests under way arrive first.
        """
        with ThreadPoolExecutor(workers) as pool:
            futures = {pool.submit(function, item): item for item in items}
            try:
                for future in as_completed(futures):
                    try:
                        yield futures[future], future.result()
                    except RefusedError as error:
                        yield futures[future], error
            except BaseException:
                self._stop.set()  # or threads would wait for minutes before a retry that nobody wants any more
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _post(self, body: Message) -> dict[str, Any]:
        """Send a request until it is answered."""
        wait = self.settings.first_wait
        for left in reversed(range(self.settings.retries + 1)):
            self._await_turn()
            try:
                return self._post_once(body)
            except _TryAgainError as failure:
                problem = failure
            if not left:
                break
            if problem.wait is None:
                pause, wait = wait * random.uniform(0.75, 1.25), wait * _FACTOR  # or all threads come back at once
                logger.info("%s; next attempt in %.1f s", problem, pause)
                self._stop.wait(pause)
            else:
                self._hold(problem)
        raise EndpointError(
            f"{self._address}: {problem}, after {self.settings.retries} retries; "
            "check the service, then run the same again: it goes on from there"
        )

    def _post_once(self, body: Message) -> dict[str, Any]:
        """Send a request once and return the checked answer."""
        try:
            response = self._client.post(self._address, json=body)
        except self._http.TransportError as error:
            raise _TryAgainError(f"{type(error).__name__} ({error})") from error
        status = response.status_code
        if status in _LATER or status >= 500:
            raise _TryAgainError(f"answers {status} ({_reason(response)})", wait=_retry_after(response))
        if status in _REFUSED:
            raise RefusedError(f"{self._address}: refuses the request ({status}: {_reason(response)}); change it")
        if status in (401, 403):
            raise EndpointError(f"{self._address}: refuses the key ({status}: {_reason(response)}); check the key")
        if status != 200:
            raise EndpointError(f"{self._address}: answers {status} ({_reason(response)}); check address and model")
        try:
            answer = response.json()
        except ValueError as error:
            raise _TryAgainError("answers with something that is no JSON") from error
        if not Reply.fits(answer):
            raise _TryAgainError("answers with JSON that is no chat completion")
        return answer

    def _await_turn(self) -> None:
        """Wait until a request may be sent, and check that it still should."""
        pace = self.settings.requests_per_minute
        while True:
            with self._lock:
                self._check_budget()
                now = time.monotonic()
                wait = self._next_turn - now
                if wait <= 0:
                    self._next_turn = now + (60 / pace if pace else 0)
            if self._stop.is_set():
                raise EndpointError(f"{self._address}: stopped; run the same again, it goes on from there")
            if wait <= 0:
                return
            self._stop.wait(wait)

    def _hold(self, problem: "_TryAgainError") -> None:
        """Let no thread send anything for as long as the service asked."""
        assert problem.wait is not None
        if problem.wait > self.settings.longest_wait:
            raise EndpointError(
                f"{self._address}: {problem} and wants {problem.wait:.0f} s of rest, more than "
                f"{self.settings.longest_wait:.0f}; run the same again later, it goes on from there"
            )
        logger.info("%s; all requests rest for %.1f s, as the service asks", problem, problem.wait)
        with self._lock:
            self._next_turn = max(self._next_turn, time.monotonic() + problem.wait)

    def _check_budget(self) -> None:
        budget, cost = self.settings.budget, self.settings.cost(self.paid)
        if budget is not None and cost is not None and cost >= budget:
            raise EndpointError(
                f"the budget of {budget:g} is spent ({cost:.4g}); raise it and run the same again to go on"
            )


class _TryAgainError(Exception):
    """A failure that may pass; ``wait`` is for how many seconds the service asks for rest, None if it does not."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def _retry_after(response: Any) -> float | None:
    """Seconds that the header Retry-After asks for, which is a number or a date; None without a readable one."""
    value = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _reason(response: Any) -> str:
    """The service's own words on one line."""
    try:
        text = str(json.loads(response.text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:200] or response.reason_phrase
