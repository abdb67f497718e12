"""The client of remote models, against a service that misbehaves: waits, retries, cache, budget, threads."""

import base64
import io
import json
import time
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chat_server import COMPLETION, Fault, Service, serve
from omnialpha.errors import EndpointError, InputError, RefusedError
from omnialpha.evaluation.chat import Usage, user_message
from omnialpha.evaluation.endpoint import Endpoint, EndpointSettings

QUESTION = [user_message("Is it a kite?")]


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(Service()) as service:
        yield service


def endpoint(service: Service, cache: Path, *, key: str | None = None, **settings: Any) -> Endpoint:
    values: dict[str, Any] = {"model": "m", "first_wait": 0.01, "timeout": 5, "retries": 3} | settings
    return Endpoint(EndpointSettings(url=service.url, **values), cache=cache, api_key=key)


def test_request_is_what_the_api_wants(service: Service, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    picture.putpixel((1, 0), (255, 0, 0, 255))
    with endpoint(service, tmp_path, key="secret", parameters={"temperature": 0, "max_tokens": 5}) as client:
        reply = client.ask([user_message("Look:", picture)])
    assert (reply.text, reply.usage) == ("yes", Usage(replies=1, input_tokens=1000, output_tokens=20))
    (body, _, authorization), *rest = service.requests
    assert rest == []
    assert authorization == "Bearer secret"
    assert {name: body[name] for name in ("model", "temperature", "max_tokens")} == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 5,
    }
    (message,) = body["messages"]
    text, image = message["content"]
    assert (message["role"], text) == ("user", {"type": "text", "text": "Look:"})
    address = image["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")
    decoded = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert (decoded.mode, decoded.tobytes()) == ("RGB", bytes([255, 255, 255, 255, 0, 0]))  # over white


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, body="oh"),
        Fault(status=429, body="slow down"),
        Fault(status=503, headers={"Retry-After": "soon"}),
        Fault(body="<html>not json</html>"),
        Fault(body=json.dumps({"choices": []})),
        Fault(body=json.dumps({"choices": [{"message": {"content": 5}}]})),
        Fault(body=json.dumps({"error": "overloaded"})),
        Fault(body=json.dumps(COMPLETION), cut=True),
        Fault(body=json.dumps(COMPLETION), delay=0.6),
    ],
    ids=["500", "429", "503", "no json", "no choices", "no text", "no completion", "cut", "time-out"],
)
def test_passing_failures_are_tried_again(service: Service, tmp_path: Path, fault: Fault) -> None:
    service.faults = deque([fault, fault])
    with endpoint(service, tmp_path, timeout=0.3) as client:
        assert client.ask(QUESTION).text == "yes"
        assert client.paid.replies == 1
    assert len(service.requests) == 3


def test_waits_grow_and_end(service: Service, tmp_path: Path) -> None:
    service.faults = deque([Fault(status=500, body='{"error": {"message": "no\\ncapacity"}}')] * 9)
    with (
        endpoint(service, tmp_path, first_wait=0.05) as client,
        pytest.raises(EndpointError, match=r"answers 500 \(no capacity\), after 3 retries; .*goes on from there"),
    ):
        client.ask(QUESTION)
    times = [at for _, at, _ in service.requests]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == 3
    assert all(wait >= 0.75 * 0.05 * 2**number for number, wait in enumerate(waits))


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_all_requests_rest_as_long_as_the_service_asks(service: Service, tmp_path: Path, form: str) -> None:
    in_seconds = Fault(status=429, headers={"Retry-After": "0.8"})
    service.faults = deque([in_seconds if form == "seconds" else Fault(status=429, rest=2)])  # a date: whole seconds
    with endpoint(service, tmp_path) as client:
        texts = ["first", "second", "third"]
        results = dict(client.map(lambda text: client.ask([user_message(text)]).text, texts, workers=1))
    assert results == dict.fromkeys(texts, "yes")
    (_, refused, _), *others = service.requests
    assert len(others) == 3
    assert 0.75 <= min(at for _, at, _ in others) - refused < 10


def test_too_long_a_rest_ends_the_run(service: Service, tmp_path: Path) -> None:
    service.faults = deque([Fault(status=429, headers={"Retry-After": "3600"})])
    with endpoint(service, tmp_path) as client, pytest.raises(EndpointError, match="wants 3600 s of rest"):
        client.ask(QUESTION)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, RefusedError, "unsafe picture"),
        (422, RefusedError, "change it"),
        (401, EndpointError, "check the key"),
        (404, EndpointError, "check address and model"),
    ],
)
def test_final_refusals_are_not_repeated(
    service: Service, tmp_path: Path, status: int, kind: type[EndpointError], words: str
) -> None:
    service.faults = deque([Fault(status=status, body='{"error": {"message": "unsafe picture"}}')])
    with endpoint(service, tmp_path, key="secret") as client, pytest.raises(kind, match=words) as caught:
        client.ask(QUESTION)
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)
    assert len(service.requests) == 1


def test_a_reply_is_paid_once(service: Service, tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    for _ in range(2):
        with endpoint(service, tmp_path, key="secret") as client:
            first = client.ask([user_message("a", picture)])
            assert client.ask([user_message("a", picture)]) == first
    assert client.paid == Usage()
    assert len(service.requests) == 1
    with endpoint(service, tmp_path) as client:
        client.ask([user_message("b", picture)])
    with endpoint(service, tmp_path, parameters={"seed": 1}) as client:
        client.ask([user_message("a", picture)])
    assert len(service.requests) == 3  # another text, other parameters: other requests
    kept = json.loads((tmp_path / first.file).read_text())
    assert kept["answer"]["choices"][0]["message"]["content"] == "yes"
    assert kept["request"]["messages"][0]["content"][1]["image_url"]["url"].startswith("sha256:")
    assert "secret" not in (tmp_path / first.file).read_text()


def test_a_damaged_reply_is_named(service: Service, tmp_path: Path) -> None:
    with endpoint(service, tmp_path) as client:
        file = tmp_path / client.ask(QUESTION).file
        file.write_text("{}")
        with pytest.raises(InputError, match="delete it to ask again") as caught:
            client.ask(QUESTION)
    assert str(file) in str(caught.value)


def test_threads_work_at_once_and_keep_refusals_apart(service: Service, tmp_path: Path) -> None:
    service.delay = 0.2
    service.faults = deque([Fault(status=400)])
    items = list(range(8))
    with endpoint(service, tmp_path) as client:
        results = dict(client.map(lambda item: client.ask([user_message(str(item))]).text, items, workers=4))
    assert set(results) == set(items)
    assert sorted(type(result).__name__ for result in results.values()) == ["RefusedError", *["str"] * 7]
    assert 2 <= service.busy[1] <= 4


def test_a_final_error_stops_the_other_threads(service: Service, tmp_path: Path) -> None:
    service.faults = deque([Fault(status=500), Fault(status=401)])
    begun = time.monotonic()
    with endpoint(service, tmp_path, first_wait=30) as client, pytest.raises(EndpointError, match="check the key"):
        list(client.map(lambda item: client.ask([user_message(str(item))]), range(50), workers=2))
    assert time.monotonic() - begun < 10  # not the 30 s of the other thread's wait
    assert len(service.requests) < 5


def test_pace_is_kept(service: Service, tmp_path: Path) -> None:
    begun = time.monotonic()
    with endpoint(service, tmp_path, requests_per_minute=300) as client:
        list(client.map(lambda item: client.ask([user_message(str(item))]), range(4), workers=4))
    assert time.monotonic() - begun >= 0.6  # one at once, three after a fifth of a second each


def test_budget_ends_the_run(service: Service, tmp_path: Path) -> None:
    prices: dict[str, Any] = {"input_price": 10.0, "output_price": 100.0}  # 0.012 a reply
    with endpoint(service, tmp_path, budget=0.03, **prices) as client:
        with pytest.raises(EndpointError, match=r"budget of 0.03 is spent \(0.036\)"):
            list(client.map(lambda item: client.ask([user_message(str(item))]), range(9), workers=1))
        assert client.settings.cost(client.paid) == pytest.approx(0.036)
        assert client.ask([user_message("0")]).text == "yes"  # what is in the cache costs nothing
    assert len(service.requests) == 3
    service.usage = None
    with endpoint(service, tmp_path, budget=1.0, **prices) as client, pytest.raises(EndpointError, match="count"):
        client.ask(QUESTION)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "localhost:8000"}, "https://"),
        ({"parameters": {"messages": []}}, "messages"),
        ({"input_price": 1.0}, "prices"),
        ({"budget": 1.0}, "prices"),
        ({"timeout": 0.0}, "above 0"),
        ({"retries": -1}, "not below"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EndpointSettings(**{"url": "http://h/v1", "model": "m", **settings})
