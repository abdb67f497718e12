"""The VLM judge, against a service that misbehaves: orders, parsing, retries, resumption after a kill, the command."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import pair_folder
from chat_server import Fault, Service, serve
from omnialpha.apps.judging import judge as judge_command
from omnialpha.errors import EndpointError, InputError
from omnialpha.evaluation.chat import Message
from omnialpha.evaluation.endpoint import Endpoint, EndpointSettings
from omnialpha.evaluation.judge import Judgement, judge, read_verdict, summarise
from omnialpha.evaluation.judge_prompts import PROMPTS
from omnialpha.evaluation.preference import Preference

# Of the paper's Appendix C, white space apart: a change of a word is a change of the protocol.
PRINTED = {
    ("bg2full", "gt_prompt"): "583d42275074f8f8",
    ("bg2full", "pred_prompt"): "f78f7fade0772f71",
    ("fg2full", "gt_prompt"): "583d42275074f8f8",
    ("fg2full", "pred_prompt"): "46d420092eb4aaf3",
}


def parts(body: Message) -> tuple[list[str], list[Image.Image]]:
    """Texts and pictures of the first message of a request."""
    content = body["messages"][0]["content"]
    texts = [part["text"] for part in content if part["type"] == "text"]
    addresses = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return texts, [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in addresses]


def green(picture: Image.Image) -> bool:
    return picture.getpixel((3, 3)) == pair_folder.OURS


def verdict(better: str) -> str:
    return json.dumps({"better": better, "reasoning": "because"})


def prefers_ours(body: Message) -> str:
    return verdict("A" if green(parts(body)[1][1]) else "B")


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(Service(answer=prefers_ours)) as service:
        yield service


def run(service: Service, folder: Path, count: int = 2, **options: Any) -> list[Judgement]:
    settings = EndpointSettings(url=service.url, model="judge", first_wait=0.01)
    with Endpoint(settings, cache=folder / "replies") as endpoint:
        return list(judge(pair_folder.make(folder / "pairs", count, **options), endpoint, workers=2))


def outcomes(judgements: list[Judgement]) -> list[str | None]:
    return [each.outcome for each in sorted(judgements, key=lambda each: each.pair.id)]


@pytest.mark.parametrize(("setting", "field"), PRINTED)
def test_prompts_are_the_printed_ones(setting: str, field: str) -> None:
    words = " ".join(getattr(PROMPTS[setting], field).split())
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == PRINTED[setting, field]


def test_each_pair_is_shown_in_both_orders(service: Service, tmp_path: Path) -> None:
    (judgement,) = run(service, tmp_path, count=1)
    assert (judgement.verdicts, judgement.outcome) == (("win", "win"), "win")
    shown = [parts(body) for body, _, _ in service.requests]
    assert len(shown) == 2
    for texts, _ in shown:
        assert texts[0] == PROMPTS["fg2full"].pred_prompt
        assert texts[1:] == ["1.", "2. scene 0", "3. Method A:", "4. Method B:"]
    (_, first), (_, second) = shown
    assert [green(picture) for picture in first[1:]] == [True, False]
    assert [green(picture) for picture in second[1:]] == [False, True]
    assert first[0].getpixel((3, 3)) == (155, 155, 233)  # the transparent condition over white


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("A", "B"), "win"),
        (("B", "A"), "lose"),
        (("A", "A"), "tie"),  # always the first picture: the order decides, not the picture
        (("tie", "tie"), "tie"),
        (("A", "tie"), "tie"),
        (("tie", "A"), "tie"),
    ],
)
def test_disagreement_is_a_tie(service: Service, tmp_path: Path, answers: tuple[str, str], expected: str) -> None:
    service.answer = lambda body: verdict(answers[0 if green(parts(body)[1][1]) else 1])
    assert outcomes(run(service, tmp_path, count=1)) == [expected]


@pytest.mark.parametrize(
    "text", [verdict("B"), f"\n {verdict('B')} ", f"```json\n{verdict('B')}\n```", f"```\n{verdict('B')}\n```"]
)
def test_verdicts_that_are_read(text: str) -> None:
    assert read_verdict(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        '"A"',
        "[]",
        "[1, 2]",
        "null",
        f"I think {verdict('A')}",
        f"{verdict('A')} because",
        f"```json\n{verdict('A')}\n``` because",
        verdict("a"),
        verdict("<A|B|tie>"),
        '{"better": "A"}',
        '{"better": "A", "reasoning": 1}',
        '{"better": "A", "reasoning": "", "score": 1}',
        '{"better": "A", "better": "B", "reasoning": ""}',
        '{"better": ["A"], "reasoning": ""}',
    ],
)
def test_verdicts_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="ask again"):
        read_verdict(text)


def test_an_unreadable_reply_is_asked_for_once_more(service: Service, tmp_path: Path) -> None:
    service.answer = lambda body: "The left one!" if len(body["messages"]) == 1 else prefers_ours(body)
    (judgement,) = run(service, tmp_path, count=1)
    assert judgement.outcome == "win"
    assert [reply.text for reply in judgement.replies][::2] == ["The left one!"] * 2  # raw replies are kept
    again = service.requests[1][0]["messages"]
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == "The left one!"


def test_a_judge_that_cannot_be_read_leaves_no_verdict(service: Service, tmp_path: Path) -> None:
    service.answer = lambda body: prefers_ours(body) if "scene 1" in str(body) else ""
    judgements = run(service, tmp_path, tasks=pair_folder.TASKS[:1])
    assert outcomes(judgements) == [None, "win"]
    assert summarise(judgements) == {"foreground_to_composite": Preference(win=1, missing=1)}
    problem = next(each.problem for each in judgements if each.outcome is None)
    assert problem == "AB: the reply is no JSON object; ask again; BA: the reply is no JSON object; ask again"
    assert len(service.requests) == 4 + 2


def test_failures_of_the_service_change_nothing(service: Service, tmp_path: Path) -> None:
    cut = Fault(body=json.dumps({"choices": [{"message": {"content": verdict("B")}}]}), cut=True)
    rest = Fault(status=429, headers={"Retry-After": "0.1"})
    service.faults = deque([Fault(status=500), rest, Fault(body="{"), Fault(body="{}"), cut])
    assert outcomes(run(service, tmp_path, count=4)) == ["win"] * 4
    assert len(service.paid) == 8


def test_a_refused_pair_is_reported_and_the_rest_is_judged(service: Service, tmp_path: Path) -> None:
    service.faults = deque([Fault(status=400, body='{"error": {"message": "unsafe"}}')])
    judgements = run(service, tmp_path, count=3)
    assert sorted(map(str, outcomes(judgements))) == ["None", "win", "win"]
    assert "unsafe" in next(each.problem for each in judgements if each.outcome is None)


def test_pairs_without_a_prompt_are_refused_before_anything_is_paid(service: Service, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='no prompt for "background_to_compost"; did you mean "background_to_compo'):
        run(service, tmp_path, tasks=["foreground_to_composite", "background_to_compost"])
    assert service.requests == []


def test_a_wrong_key_ends_the_run(service: Service, tmp_path: Path) -> None:
    service.faults = deque([Fault(status=401)] * 9)
    with pytest.raises(EndpointError, match="check the key"):
        run(service, tmp_path, count=6)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    app = typer.Typer()
    app.command()(judge_command)
    return app


def options(service: Service, folder: Path) -> list[str]:
    paths = [str(folder / "pairs"), "--out", str(folder / "out")]
    return [*paths, "--url", service.url, "--model", "judge", "--input-price", "2", "--output-price", "10"]


def test_command_reports_everything_and_pays_nothing_twice(
    service: Service, tmp_path: Path, command: typer.Typer
) -> None:
    pair_folder.make(tmp_path / "pairs")
    first = CliRunner().invoke(command, options(service, tmp_path))
    assert first.exit_code == 0, first.output
    assert "| ours | 100 % (34–100) | 85 % | 87 % | 95 % | 100 % (34–100) | 88 % | 85 % | 91 % |" in first.stdout
    assert "All replies: 8, 8000 + 160 tokens, cost 0.0176" in first.stdout
    assert "Of these, in this run: 8," in first.stdout
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["tasks"]["foreground_to_composite"]["rates"]["win"]["rate"] == 1
    assert [case["outcome"] for case in found["cases"]] == ["win"] * 4
    assert found["endpoint"]["parameters"] == {"temperature": 0}
    for case in found["cases"]:
        for reply in case["replies"]:
            assert (tmp_path / "out" / "replies" / reply["file"]).is_file()
    assert all(key == "Bearer secret" for _, _, key in service.requests)
    assert "secret" not in (tmp_path / "out" / "results.json").read_text()
    assert (tmp_path / "out" / "table.md").read_text() in first.stdout

    second = CliRunner().invoke(command, options(service, tmp_path))
    assert "Of these, in this run: 0, 0 + 0 tokens, cost 0.0000" in second.stdout
    assert len(service.requests) == 8
    assert second.stdout.split("All replies")[0] == first.stdout.split("All replies")[0]


def test_command_fails_when_a_verdict_is_missing(service: Service, tmp_path: Path, command: typer.Typer) -> None:
    pair_folder.make(tmp_path / "pairs", count=1)
    service.answer = lambda body: "no"
    result = CliRunner().invoke(command, options(service, tmp_path))
    assert result.exit_code == 1
    assert "no verdict on case 0: AB: the reply is no JSON object" in result.stderr
    assert "in no rate: 1 of foreground_to_composite" in result.stdout


def replies_in(folder: Path) -> list[Path]:
    files = (folder / "out").rglob("*.json")
    return [file for file in files if not file.name.startswith(".omnialpha-")]  # half-written when it was killed


def test_a_killed_run_goes_on_and_pays_nothing_twice(service: Service, tmp_path: Path) -> None:
    pair_folder.make(tmp_path / "pairs", count=6)
    service.delay = 0.05
    code = "import typer; from omnialpha.apps.judging import judge; typer.run(judge)"
    command = [sys.executable, "-c", code, *options(service, tmp_path), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as running:
        deadline = time.monotonic() + 200
        while len(replies_in(tmp_path)) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
    while service.busy[0]:
        time.sleep(0.01)
    stored = replies_in(tmp_path)
    assert 4 <= len(stored) < 12, "killed in the middle"
    paid = len(service.paid)
    assert paid <= len(stored) + 2  # at most the requests under way were lost

    begun = len(service.requests)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=200)
    assert len(service.requests) - begun == 12 - len(stored)
    assert all(file.is_file() for file in stored)
