"""The service over HTTP, in this process: every route, every kind of answer, every refusal."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import tiny
from omnialpha.apps.server.app import create_app
from omnialpha.apps.server.jobs import Work
from omnialpha.apps.server.model import Model
from omnialpha.apps.server.schemas import EXAMPLE_PICTURE
from omnialpha.apps.server.service import Service
from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.formats import open as open_layers
from omnialpha.imaging import rgba
from omnialpha.imaging.refine import refine
from omnialpha.tasks import TASKS


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny.pipeline(), "tiny")


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(
        data=tmp_path / "data", max_queue=8, max_megapixels=0.1, max_images=4, max_upload=1, max_layers=4, max_steps=20
    )


@pytest.fixture
def client(model: Model, settings: ServiceSettings) -> Iterator[TestClient]:
    with TestClient(create_app(model, settings)) as client:
        yield client


def png(seed: int = 0, size: tuple[int, int] = (48, 32)) -> bytes:
    stream = io.BytesIO()
    tiny.picture(seed, size).save(stream, "PNG")
    return stream.getvalue()


def form(*pictures: bytes, name: str = "photo.png") -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (name, picture, "image/png")) for picture in pictures]


def error_of(response: Any) -> tuple[int, str]:
    """Status and type of an error, after checking that it is one line without a trace or a path."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message"}
    message = body["error"]["message"]
    assert "\n" not in message
    assert not any(word in message for word in ("Traceback", ".py", "/tmp", "/uploads"))
    return response.status_code, body["error"]["type"]


def wait(client: TestClient, job: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (status := client.get(f"/v1/jobs/{job}").json())["state"] not in states:
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    return status


# --- direct calls ---


def test_a_direct_call_gives_the_pipelines_own_layer(client: TestClient, model: Model) -> None:
    response = client.post("/v1/tasks/matting_auto", files=form(png()), data={"seed": "5", "steps": "3"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    expected = model.pipeline(task="matting_auto", images=[tiny.picture()], seed=5, num_inference_steps=3).images[0][0]
    stream = io.BytesIO(response.content)
    assert np.array_equal(np.asarray(Image.open(stream)), np.asarray(expected))
    metadata = rgba.read_metadata(stream)
    assert {metadata[key] for key in ("task", "seed", "model", "num_inference_steps")} == {"matting_auto", 5, "tiny", 3}


@pytest.mark.parametrize("format", ["psd", "ora", "png"])
def test_json_and_forms_give_the_same_bytes_in_every_format(client: TestClient, tmp_path: Path, format: str) -> None:
    options = {"seed": 2, "layers": 3, "format": format}
    body = {"images": [base64.b64encode(png()).decode()], **options}
    first = client.post("/v1/tasks/decomposition_auto", json=body)
    second = client.post(
        "/v1/tasks/decomposition_auto", files=form(png()), data={k: str(v) for k, v in options.items()}
    )
    assert first.status_code == second.status_code == 200
    if format == "png":  # several layers: a zip of them
        names = zipfile.ZipFile(io.BytesIO(first.content)).namelist()
        assert {"00-background.png", "manifest.json"} < set(names)
        assert first.content == second.content
        return
    stacks = []
    for number, response in enumerate((first, second)):
        (tmp_path / f"{number}.{format}").write_bytes(response.content)
        stacks.append(open_layers(tmp_path / f"{number}.{format}"))
    assert [layer.name for layer in stacks[0]] == ["background", "foreground 2", "foreground 1"]
    assert [layer.image.tobytes() for layer in stacks[0]] == [layer.image.tobytes() for layer in stacks[1]]


def test_several_jobs_in_one_request_in_every_envelope(client: TestClient) -> None:
    def post(**options: str) -> Any:
        response = client.post("/v1/tasks/removal_auto", files=form(png(1), png(2)), data={"seed": "7", **options})
        assert response.status_code == 200, response.text
        return response

    archive = zipfile.ZipFile(io.BytesIO(post().content))
    zipped = [archive.read(name) for name in archive.namelist()]
    results = post(response="json").json()["results"]
    in_json = [base64.b64decode(result["data"]) for result in results]
    response = post(response="multipart")
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + response.content).get_payload()
    in_parts = [part.get_payload(decode=True) for part in parts]  # type: ignore[union-attr]
    assert zipped == in_json == in_parts
    assert len({*zipped}) == 2
    assert [result["metadata"]["seed"] for result in results] == [7, 8]


def test_every_task_is_listed_and_the_example_runs(client: TestClient) -> None:
    answer = client.get("/v1/tasks").json()
    assert [row["id"] for row in answer["tasks"]] == list(TASKS)
    assert {"png", "psd", "ora"} <= set(answer["formats"])
    assert client.get("/v1/models").json()["models"][0]["model"] == "tiny"
    for task, body in (("matting_auto", {"images": [EXAMPLE_PICTURE]}), ("text_to_image", {"text": "a kite"})):
        assert client.post(f"/v1/tasks/{task}", json=body).status_code == 200
    assert client.post(
        "/v1/tasks/matting_auto", json={"images": [f"data:image/png;base64,{EXAMPLE_PICTURE}"]}
    ).is_success


def test_a_picture_larger_than_the_models_size_is_refined(client: TestClient, model: Model) -> None:
    """As on the command line; the reference is the refinement itself on what the pipeline gives."""
    photo = tiny.picture(0, (240, 160))
    (stack,) = model.pipeline(task="matting_auto", images=[photo], seed=0).stacks
    url, files = "/v1/tasks/matting_auto", form(png(0, (240, 160)))
    fine = Image.open(io.BytesIO(client.post(url, files=files).content))
    raw = Image.open(io.BytesIO(client.post(url, files=files, data={"refine": "false"}).content))
    assert fine.tobytes() == refine("matting_auto", [photo], stack)[0].image.tobytes()
    assert raw.tobytes() == stack[0].image.tobytes() != fine.tobytes()


# --- jobs ---


def test_a_job_from_acceptance_to_result(client: TestClient) -> None:
    response = client.post("/v1/jobs?task=decomposition_auto", files=form(png()), data={"steps": "20"})
    assert response.status_code == 202
    (job,) = response.json()["jobs"]
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert lines[-2] == "event: done"
    assert told[-1]["state"] == "done"
    assert told[-1]["step"] == told[-1]["steps"] == 20
    assert [row["step"] for row in told] == sorted(row["step"] for row in told)
    for format, kind in (("psd", b"8BPS"), ("ora", b"PK")):
        assert client.get(f"/v1/jobs/{job['id']}/result?format={format}").content.startswith(kind)


def test_a_running_job_can_be_cancelled_and_others_go_on(client: TestClient, model: Model) -> None:
    entered, go_on = threading.Event(), threading.Event()
    step = model.pipeline.scheduler.step

    def slow(*args: Any, **options: Any) -> Any:
        entered.set()
        go_on.wait(30)
        return step(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.pipeline.scheduler, "step", slow)
        jobs = [
            client.post("/v1/jobs?task=matting_auto", files=form(png(k)), data={"steps": "5"}).json()["jobs"][0]["id"]
            for k in range(2)
        ]
        assert entered.wait(30)
        wait(client, jobs[0], "running")
        assert client.delete(f"/v1/jobs/{jobs[0]}").json()["state"] == "cancelled"
        go_on.set()
        assert wait(client, jobs[1], "done")["step"] == 5
    assert error_of(client.get(f"/v1/jobs/{jobs[0]}/result")) == (409, "NoResult")
    assert client.delete(f"/v1/jobs/{jobs[1]}").json()["state"] == "done"


def test_seeds_hold_in_a_batch(model: Model, settings: ServiceSettings) -> None:
    """Noise is each job's own; sums in another order may round differently, by at most one step of 255."""
    service = Service(model, replace(settings, batch_wait=0.5, max_queue=100))
    jobs = [service.submit(Work(task="matting_auto", seed=k), [tiny.picture(k)]) for k in range(4)]
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.metrics.batch_size, "observe", sizes.append)
        service.start()
        for job in jobs:
            assert [state.state for state in service.follow(job.id)][-1] == "done"
        service.stop()
    assert sizes == [4]
    for k, job in enumerate(jobs):
        alone = model.pipeline(task="matting_auto", images=[tiny.picture(k)], seed=k).images[0][0]
        batched = service.result(job.id)[0].image
        assert np.abs(np.asarray(alone, int) - np.asarray(batched, int)).max() <= 1


def test_one_job_that_fails_does_not_fail_its_batch(model: Model, settings: ServiceSettings) -> None:
    service = Service(model, replace(settings, batch_wait=0.5))
    works = [Work(task="text_to_image", text=text, seed=k) for k, text in enumerate(("fine", "poison", "good"))]
    jobs = [service.submit(work) for work in works]
    call = type(model.pipeline).__call__

    def failing(pipe: Any, **options: Any) -> Any:
        if "poison" in options["text"]:
            raise RuntimeError("secret of another client")
        return call(pipe, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.pipeline), "__call__", failing)
        service.start()
        ends = [list(service.follow(job.id))[-1] for job in jobs]
        service.stop()
    assert [end.state for end in ends] == ["done", "failed", "done"]
    assert ends[1].problem is not None
    assert "secret" not in ends[1].problem.message


def test_time_limit(model: Model, settings: ServiceSettings) -> None:
    with TestClient(create_app(model, replace(settings, time_limit=1e-6))) as client:
        assert error_of(client.post("/v1/tasks/matting_auto", files=form(png()))) == (504, "TimeLimit")


# --- refusals ---


def test_wrong_requests_are_explained(client: TestClient) -> None:
    ok = form(png())
    url = "/v1/tasks/matting_auto"
    assert error_of(client.post("/v1/tasks/matting_atuo", files=ok)) == (404, "NotFound")
    assert error_of(client.get("/v1/jobs/unknown")) == (404, "NotFound")
    assert error_of(client.get("/nowhere")) == (404, "NotFound")
    assert error_of(client.get(url)) == (405, "MethodNotAllowed")
    assert error_of(client.post(url, content=b"x", headers={"content-type": "text/plain"}))[0] == 415
    assert error_of(client.post(url, json={"images": ["not base64!"]})) == (422, "InputError")
    assert error_of(client.post(url, json={"images": ["AAAA"]})) == (422, "ImageError")
    assert error_of(client.post(url, json={"colour": 1})) == (422, "InputError")
    assert error_of(client.post(url, json={"images": [EXAMPLE_PICTURE], "seed": "1"})) == (422, "InputError")
    assert error_of(client.post(url, content=b"{", headers={"content-type": "application/json"}))[0] == 422
    assert error_of(client.post(url, files=ok, data={"steps": "21"})) == (422, "InputError")
    assert error_of(client.post(url, files=ok, data={"width": "4000"})) == (422, "InputError")
    assert error_of(client.post(url, files=ok, data={"format": "pds"})) == (422, "InputError")
    assert error_of(client.post(url, files=ok, data={"text": "a cat"})) == (422, "InputError")
    assert error_of(client.post(url, files=form(*[png()] * 5))) == (422, "InputError")
    assert error_of(client.post(url, files=form(png(size=(400, 400))))) == (422, "ImageError")
    assert error_of(client.post(url, files=form(png()[:100]))) == (422, "ImageError")
    assert error_of(client.post(url, files=form(b"\0" * 1_100_000))) == (413, "UploadTooLarge")
    assert error_of(client.post("/v1/tasks/decomposition_auto", files=ok, data={"layers": "5"})) == (422, "InputError")
    assert "did you mean" in client.post("/v1/tasks/matting_atuo", files=ok).json()["error"]["message"]


def test_names_of_clients_are_no_paths(client: TestClient, settings: ServiceSettings) -> None:
    for name in ("../../evil.png", "/etc/passwd", "C:\\evil.png", "a" * 5000, "\0.png"):
        response = client.post("/v1/tasks/matting_auto", files=form(png(), name=name))
        assert response.status_code in (200, 422)
    outside = [p for p in settings.data.parent.rglob("*") if settings.data not in (p, *p.parents)]
    assert outside == []
    assert not [p for p in settings.data.rglob("*") if "evil" in p.name or "passwd" in p.name]
    assert not list((settings.data / "uploads").iterdir())


def test_a_full_queue_says_when_to_come_back(model: Model, settings: ServiceSettings) -> None:
    client = TestClient(create_app(model, replace(settings, max_queue=2)))  # not entered: nothing works on the queue
    for _ in range(2):
        assert client.post("/v1/jobs?task=text_to_image", json={"text": "x"}).status_code == 202
    response = client.post("/v1/jobs?task=text_to_image", json={"text": "x"})
    assert error_of(response) == (429, "QueueFull")
    assert int(response.headers["retry-after"]) >= 1


def test_key(model: Model, settings: ServiceSettings) -> None:
    client = TestClient(create_app(model, replace(settings, api_key="täg")))
    assert client.get("/openapi.json").status_code == 200
    for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}):
        for path in ("/v1/tasks", "/metrics", "/v1/jobs/x"):
            response = client.get(path, headers=headers)
            assert error_of(response) == (401, "Unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
    client = TestClient(create_app(model, replace(settings, api_key="key")))
    for headers in ({"X-API-Key": "key"}, {"Authorization": "Bearer key"}):
        assert client.get("/v1/tasks", headers=headers).status_code == 200


def test_other_origins_may_call_only_when_named(model: Model, settings: ServiceSettings) -> None:
    asked = {"Origin": "https://a.example"}
    closed = TestClient(create_app(model, settings))
    assert "access-control-allow-origin" not in closed.get("/v1/tasks", headers=asked).headers
    open_ = TestClient(create_app(model, replace(settings, cors_origin=["https://a.example"])))
    assert open_.get("/v1/tasks", headers=asked).headers["access-control-allow-origin"] == "https://a.example"


def test_what_nobody_expected_is_one_line_without_a_trace(model: Model, settings: ServiceSettings) -> None:
    app = create_app(model, settings)
    app.state.service.store.counts = lambda: 1 / 0
    response = TestClient(app).get("/metrics")
    assert error_of(response) == (500, "InternalError")
    assert "division" not in response.text


# --- figures ---


def test_health_and_metrics(client: TestClient) -> None:
    client.post("/v1/tasks/matting_auto", files=form(png()))
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert 'omnialpha_jobs_total{state="done",task="matting_auto"} 1.0' in text
    assert 'omnialpha_requests_total{route="/v1/tasks/{task}",status="200"} 1.0' in text


def test_openapi_describes_both_kinds_of_requests_with_examples(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/tasks/{task}"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert len(content["application/json"]["examples"]) >= 3
    assert set(document["paths"]) >= {"/v1/jobs/{job}/events", "/health", "/metrics", "/v1/models"}
