"""The captioner that asks, against a service that misbehaves: prompts, useless replies, failures of the service."""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import COMPLETION, Fault, Service, serve
from omnialpha.alphalayers import backends, prompts
from omnialpha.alphalayers.asking import ATTEMPTS
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.errors import EndpointError, RejectedError
from triplets import triplet

GOOD = json.dumps({"Rewritten": f"{prompts.OPENING} a quiet harbour."})


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(Service()) as service:
        yield service


@pytest.fixture
def sample(tmp_path: Path) -> Triplet:
    return triplet(tmp_path / "sample")


def captioner(service: Service, tmp_path: Path, **options: Any) -> backends.Captioner:
    values = {"first_wait": 0.01, "timeout": 5, "retries": 3} | options
    query = "&".join(f"{name}={value}" for name, value in values.items())
    return backends.captioner(f"endpoint:{service.url}#m?{query}", replies=tmp_path / "replies")


def said(body: dict[str, Any]) -> list[str]:
    """The words of a conversation, without pictures."""
    contents = [message["content"] for message in body["messages"]]
    return [c if isinstance(c, str) else "".join(part.get("text", "") for part in c) for c in contents]


def test_each_question_is_the_papers_with_the_right_picture(service: Service, sample: Triplet, tmp_path: Path) -> None:
    service.answer = lambda body: GOOD if "Rewriter" in said(body)[0] else ' Prompt: "A thing\n somewhere." '
    asking = captioner(service, tmp_path)
    assert asking.caption_foreground(sample) == "A thing somewhere."
    assert asking.imagine(sample) == "A thing somewhere."
    assert asking.replace_instruction(sample) == f"{prompts.OPENING} a quiet harbour."
    assert asking.caption_background(sample) == "A thing somewhere."
    bodies = [body for body, _, _ in service.requests]
    assert [said(body) for body in bodies] == [
        [prompts.FOREGROUND_CAPTION],
        [prompts.composite_prompt("a red disk")],
        [prompts.replace_prompt("a red disk in a park")],
        [prompts.BACKGROUND_CAPTION],
    ]
    shown = [body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies]
    assert shown[0] == shown[1] == shown[2] != shown[3]
    assert {body["temperature"] for body in bodies} == {0}


def test_a_useless_reply_is_answered_with_the_complaint(service: Service, sample: Triplet, tmp_path: Path) -> None:
    replies = ["I would put it into a harbour.", '{"Rewritten": "Put it into a harbour."}', GOOD]
    service.answer = lambda body: replies[len(body["messages"]) // 2]
    assert captioner(service, tmp_path).replace_instruction(sample) == f"{prompts.OPENING} a quiet harbour."
    first, second, third = (said(body) for body, _, _ in service.requests)
    assert second[:2] == [*first, replies[0]]
    assert "is no JSON" in second[2]
    assert third[:4] == [*second, replies[1]]
    assert f'begin it with "{prompts.OPENING}"' in third[4]


def test_a_model_that_never_obeys_costs_its_sample_only(service: Service, sample: Triplet, tmp_path: Path) -> None:
    service.answer = lambda body: "  " if len(said(body)) > 1 else ""
    asking = captioner(service, tmp_path)
    with pytest.raises(RejectedError, match=r"^caption: none of 3 replies.*the reply is empty") as caught:
        asking.caption_foreground(sample)
    assert caught.value.stage == "caption"
    assert len(service.requests) == ATTEMPTS


def test_failures_of_the_service_are_waited_out(service: Service, sample: Triplet, tmp_path: Path) -> None:
    body = json.dumps(COMPLETION)
    service.faults = deque([Fault(status=429), Fault(status=500), Fault(body=body, cut=True), Fault(body="oops")])
    service.answer = lambda body: "a red disk on white"
    asking = captioner(service, tmp_path, retries=5)
    assert asking.caption_foreground(sample) == "a red disk on white"
    assert len(service.requests) == 5
    assert asking.caption_foreground(sample) == "a red disk on white"  # found in the folder of replies
    assert len(service.requests) == 5


def test_a_silent_service_is_asked_again(service: Service, sample: Triplet, tmp_path: Path) -> None:
    service.faults = deque([Fault(delay=0.6)])
    assert captioner(service, tmp_path, timeout=0.2).caption_foreground(sample) == "yes"


def test_a_refused_sample_is_told_from_a_service_that_is_down(
    service: Service, sample: Triplet, tmp_path: Path
) -> None:
    service.faults = deque([Fault(status=400, body='{"error": {"message": "not this picture"}}')])
    asking = captioner(service, tmp_path, retries=1)
    with pytest.raises(RejectedError, match="imagine: .*not this picture"):
        asking.imagine(sample)
    service.faults = deque([Fault(status=503)] * 2)
    with pytest.raises(EndpointError, match="run the same again"):
        asking.imagine(sample)
