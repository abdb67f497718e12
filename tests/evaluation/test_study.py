"""The human study without a browser: the database, the server, the results, the command after a kill."""

import csv
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from starlette.testclient import TestClient

import pair_folder
from omnialpha.apps.listening import listen
from omnialpha.errors import InputError, OutputError
from omnialpha.evaluation.pairs import Pair
from omnialpha.evaluation.study import CHOICES, Choice, Study
from omnialpha.evaluation.study_results import export, results
from omnialpha.evaluation.study_server import application, check_pictures


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    return pair_folder.make(tmp_path / "pairs", count=6)


@pytest.fixture
def study(tmp_path: Path, pairs: list[Pair]) -> Study:
    return Study.begin(tmp_path / "study", pairs, annotators=10)


@pytest.fixture
def client(study: Study, pairs: list[Pair]) -> Iterator[TestClient]:
    with TestClient(application(study, pairs)) as client:
        yield client


def stored(study: Study) -> dict[tuple[str, str], str]:
    return {(vote.annotator, vote.case): vote.outcome for vote in study.votes()}


def choice_for(study: Study, annotator: str, position: int, outcome: str) -> Choice:
    """What this annotator has to choose so that it counts as the outcome."""
    ours = study.ours_as(annotator, position)
    return "tie" if outcome == "tie" else ours if outcome == "win" else ("A" if ours == "B" else "B")


def test_codes_are_distinct_and_stay(study: Study, tmp_path: Path, pairs: list[Pair]) -> None:
    codes = study.annotators()
    assert len(set(codes)) == 10
    assert all(re.fullmatch("[2-9a-z]{8}", code) for code in codes)
    assert Study.begin(tmp_path / "study", pairs, annotators=3).annotators() == codes
    assert Study.begin(tmp_path / "study", pairs, annotators=12).annotators()[:10] == codes


def test_sides_and_orders_are_random_but_remembered(study: Study, tmp_path: Path, pairs: list[Pair]) -> None:
    sides = {(code, position): study.ours_as(code, position) for code in study.annotators() for position in range(6)}
    assert 15 < Counter(sides.values())["A"] < 45  # of 60 with even chances: wrong once in 20,000 studies
    orders = {code: [turn.position for turn in study.turns(code)] for code in study.annotators()}
    assert all(sorted(order) == list(range(6)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 1
    again = Study(tmp_path / "study")
    assert {key: again.ours_as(*key) for key in sides} == sides
    assert {code: [turn.position for turn in again.turns(code)] for code in orders} == orders


def test_a_study_belongs_to_its_pairs(study: Study, tmp_path: Path) -> None:
    others = pair_folder.make(tmp_path / "others", count=5)
    with pytest.raises(InputError, match="study of other pairs"):
        Study.begin(tmp_path / "study", others, annotators=1)
    with pytest.raises(InputError, match="no such study"):
        Study(tmp_path)


@pytest.mark.parametrize("outcome", ["win", "tie", "lose"])
def test_votes_count_for_the_method_and_not_for_the_side(study: Study, outcome: str) -> None:
    for annotator in study.annotators()[:4]:
        for position in range(6):
            study.vote(annotator, position, choice_for(study, annotator, position, outcome), 1)
    assert Counter(stored(study).values()) == {outcome: 24}
    turn = study.turns(study.annotators()[0])[0]
    assert turn.choice == choice_for(study, study.annotators()[0], turn.position, outcome)


def test_repeated_votes_count_once_and_newer_ones_win(study: Study) -> None:
    annotator = study.annotators()[0]
    study.vote(annotator, 0, "A", 1)
    before = study.votes()
    study.vote(annotator, 0, "A", 1)
    study.vote(annotator, 0, "B", 1)  # a second tab that does not know of the first vote
    assert study.votes() == before
    study.vote(annotator, 0, "tie", 3)
    study.vote(annotator, 0, "B", 2)  # arrives late
    assert list(stored(study).values()) == ["tie"]


@pytest.mark.parametrize(
    ("position", "choice", "revision", "words"),
    [
        (6, "A", 1, "no case 6"),
        (-1, "A", 1, "no case -1"),
        ("0; DROP TABLE votes", "A", 1, "no case"),
        (None, "A", 1, "no case"),
        (0, "C", 1, '"A", "B" or "tie"'),
        (0, "A", 0, "revision"),
        (0, "A", "1", "revision"),
    ],
)
def test_impossible_votes_are_refused(study: Study, position: Any, choice: Any, revision: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        study.vote(study.annotators()[0], position, choice, revision)
    with pytest.raises(InputError, match="nobody has the code"):
        study.vote("", 0, "A", 1)
    assert study.votes() == []


def test_many_threads_lose_nothing(study: Study) -> None:
    jobs = [(code, position) for code in study.annotators() for position in range(6)] * 2
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda job: study.vote(job[0], job[1], "A", 1), jobs))
    assert len(study.votes()) == 60


def test_results_and_export(study: Study, tmp_path: Path) -> None:
    plan = {0: "win", 1: "lose", 2: "win", 3: "tie", 4: "win"}  # case 5 gets no vote
    first, second, third, *_ = study.annotators()
    for position, outcome in plan.items():
        for annotator in (first, second):
            study.vote(annotator, position, choice_for(study, annotator, position, outcome), 1)
    study.vote(third, 0, choice_for(study, third, 0, "lose"), 1)
    study.vote(third, 3, choice_for(study, third, 3, "win"), 1)

    found = results(study)
    assert [case["majority"] for case in found["cases"]] == ["win", "lose", "win", "tie", "win", None]
    one, two = (found["tasks"][task] for task in pair_folder.TASKS)
    assert [one[name] for name in ("win", "tie", "lose", "missing")] == [3, 0, 0, 0]
    assert [two[name] for name in ("win", "tie", "lose", "missing")] == [0, 1, 1, 1]
    # Only case 0 has all three votes (win, win, lose: P = 1/3, Pe = 5/9), and of the other task case 3 (tie, tie, win).
    assert (one["cases_with_all_votes"], one["fleiss_kappa"]) == (1, pytest.approx(-0.5))
    assert (two["cases_with_all_votes"], two["fleiss_kappa"]) == (1, pytest.approx(-0.5))
    assert list(found["annotators"].values()) == [5, 5, 2, *[0] * 7]

    table = export(study, tmp_path / "results")
    with (tmp_path / "results" / "votes.csv").open(newline="") as stream:
        votes = list(csv.DictReader(stream))
    assert len(votes) == 12
    assert {(vote["annotator"], vote["case"]): vote["outcome"] for vote in votes} == stored(study)
    with (tmp_path / "results" / "cases.csv").open(newline="") as stream:
        assert [case["majority"] for case in csv.DictReader(stream)] == ["win", "lose", "win", "tie", "win", ""]
    assert json.loads((tmp_path / "results" / "results.json").read_text()) == found
    assert (tmp_path / "results" / "table.md").read_text() == table
    assert "Fleiss' kappa of foreground_to_composite: -0.500 (1 cases with all votes)" in table


def test_an_empty_study_has_results(study: Study) -> None:
    task = results(study)["tasks"]["foreground_to_composite"]
    assert (task["missing"], task["rates"], task["fleiss_kappa"], task["cases_with_all_votes"]) == (3, {}, None, 0)


def test_server_shows_the_right_picture_and_keeps_it_blind(study: Study, pairs: list[Pair], client: TestClient) -> None:
    annotator = study.annotators()[0]
    answer = client.get("/api/cases", params={"annotator": annotator}).json()
    assert [case["position"] for case in answer["cases"]] == [turn.position for turn in study.turns(annotator)]
    assert not any(name in json.dumps(answer) for name in pair_folder.NAMES)
    for case in answer["cases"]:
        position = case["position"]
        assert case["text"] == pairs[position].text
        ours = study.ours_as(annotator, position)
        for name in ("A", "B"):
            response = client.get(f"/api/pictures/{annotator}/{position}/{name}")
            assert "immutable" in response.headers["Cache-Control"]
            assert not any(method in str(response.headers) for method in pair_folder.NAMES)
            expected = pair_folder.OURS if name == ours else pair_folder.THEIRS
            assert Image.open(BytesIO(response.content)).convert("RGB").getpixel((3, 3)) == expected
    assert client.get(f"/api/pictures/{annotator}/0/condition").content == pairs[0].files[2].read_bytes()


def test_server_stores_votes_and_explains_refusals(study: Study, client: TestClient) -> None:
    annotator = study.annotators()[0]
    votes = [{"position": position, "choice": "A", "revision": 1} for position in (0, 1)]
    for _ in range(2):
        response = client.post("/api/votes", json={"annotator": annotator, "votes": votes})
        assert (response.status_code, response.json()) == (200, {"saved": 2})
    assert len(study.votes()) == 2
    for body in (
        b"",
        b"[]",
        b'{"annotator": "x", "votes": 1}',
        json.dumps({"annotator": "x", "votes": votes}).encode(),
    ):
        response = client.post("/api/votes", content=body)
        assert response.status_code == 400
        assert response.json()["error"]
    refused = client.get("/api/cases", params={"annotator": "nobody"})
    assert (refused.status_code, "nobody has the code" in refused.json()["error"]) == (400, True)
    for address in (f"{annotator}/6/A", f"{annotator}/0/C", "nobody/0/A"):
        assert client.get(f"/api/pictures/{address}").status_code == 400


def test_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sorted(files) == ["data:,", "study.css", "study.js"]
    assert "default-src 'self'" in page
    for name in ("study.css", "study.js"):
        assert "//" not in re.sub(r"//.*", "", client.get(f"/{name}").text)
        assert "http" not in client.get(f"/{name}").text


def test_pictures_that_browsers_do_not_show_are_refused(pairs: list[Pair], tmp_path: Path) -> None:
    check_pictures(pairs)
    pair = Pair(id="x", task="t", text="x", candidates={"a": tmp_path / "a.tif", "b": tmp_path / "b.PNG"})
    with pytest.raises(InputError, match=r"a\.tif: browsers show \.png"):
        check_pictures([pair])


def test_a_port_in_use_is_one_line() -> None:
    with (
        listen("127.0.0.1", 0) as taken,
        pytest.raises(OutputError, match=r"port \d+ \(Address already in use\); choose another --port"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])


def serve_and_vote(folder: Path, votes: range, end: signal.Signals) -> tuple[int, str]:
    """Start the command, vote, end it at once; returns the exit code and what it said in the end."""
    code = "import typer; from omnialpha.apps.judging import study; typer.run(study)"
    folders = [str(folder / "pairs"), "--out", str(folder / "study"), "--port", "0", "--annotators", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code, *folders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        try:
            lines = [running.stdout.readline() for _ in range(4)]
            link = re.fullmatch(r"  (http://127\.0\.0\.1:\d+)/#(\w+)\n", lines[1])
            assert link is not None, lines
            for number in votes:
                vote = {"position": number, "choice": CHOICES[number % 3], "revision": 1}
                body = {"annotator": link[2], "votes": [vote]}
                response = httpx2.post(f"{link[1]}/api/votes", json=body, trust_env=False, timeout=200)
                assert response.status_code == 200
            running.send_signal(end)
            return running.wait(timeout=200), running.stdout.read()
        finally:
            running.kill()


def test_a_killed_server_loses_no_acknowledged_vote(tmp_path: Path) -> None:
    pair_folder.make(tmp_path / "pairs", count=6)
    serve_and_vote(tmp_path, range(3), signal.SIGKILL)
    assert len(Study(tmp_path / "study").votes()) == 3
    assert serve_and_vote(tmp_path, range(3, 6), signal.SIGINT) == (0, "\n6 votes are saved.\n")
    assert len(Study(tmp_path / "study").votes()) == 6
    with sqlite3.connect(tmp_path / "study" / "votes.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
