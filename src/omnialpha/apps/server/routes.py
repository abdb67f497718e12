"""The routes below /v1."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from omnialpha.apps.server import answers, examples, uploads
from omnialpha.apps.server.jobs import Job
from omnialpha.apps.server.problems import Problem, ServiceError
from omnialpha.apps.server.schemas import (
    Envelope,
    ErrorAnswer,
    JobAnswer,
    JobsAnswer,
    ModelAnswer,
    ModelsAnswer,
    TaskAnswer,
    TaskOptions,
    TasksAnswer,
)
from omnialpha.apps.server.service import Service
from omnialpha.errors import InputError
from omnialpha.tasks import TASKS, Task
from omnialpha.tasks import task as find_task

router = APIRouter()

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "A request that is no HTTP message of the right form.",
        401: "The key is missing or wrong.",
        404: "No such task or job.",
        409: "The job has no result.",
        413: "The request is too large.",
        415: "Neither JSON nor a form.",
        422: "The request does not fit the schema, the task, the model or a limit; or a picture cannot be used.",
        429: "The queue is full; Retry-After says when to come back.",
        500: "The service failed; its log says why.",
        501: "A package for the format is not installed.",
        503: "The service is restarting.",
        504: "The time limit.",
        507: "Not enough memory or disk.",
    }.items()
}
_RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The results.", "content": {kind: {} for kind in answers.media_types()}}
}

# Decoding and encoding take memory: two at a time, however many clients there are.
_READERS = ThreadPoolExecutor(2, thread_name_prefix="omnialpha-pictures")

TaskId = Annotated[str, InPath(description="Id of a task.", json_schema_extra={"enum": list(TASKS)})]
JobId = Annotated[str, InPath(description="Id of a job.", max_length=64)]
Format = Annotated[str | None, Query(description="Format of the result, instead of the job's.", max_length=20)]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.get("/v1/tasks", tags=["about"])
def tasks() -> TasksAnswer:
    """The tasks: what goes in, what comes out; and the formats of results."""
    rows = [
        TaskAnswer(id=t.id, category=t.category, inputs=list(t.inputs), targets=list(t.targets), text=t.text)
        for t in TASKS.values()
    ]
    return TasksAnswer(tasks=rows, formats=answers.offered())


@router.get("/v1/models", tags=["about"])
def models(request: Request) -> ModelsAnswer:
    """The loaded model."""
    return ModelsAnswer(models=[ModelAnswer(**_service(request).model.describe())])


@router.post(
    "/v1/tasks/{task}", tags=["tasks"], response_class=Response, responses=_RESULT, openapi_extra=examples.REQUEST_BODY
)
async def run_task(request: Request, task: TaskId) -> Response:
    """Run a task and wait for its results."""
    service = _service(request)
    options, jobs = await _accept(request, task)
    try:
        async with asyncio.timeout(service.settings.wait_limit):
            for job in jobs:
                await _finished(service, job, request, jobs)
    except TimeoutError:
        waiting = ", ".join(job.id for job in jobs)
        message = f"not finished within {service.settings.wait_limit:g} s; ask /v1/jobs/… later for {waiting}"
        raise ServiceError(Problem(504, "WaitLimit", message)) from None
    return await _answer(service, jobs, options.format, options.response)


@router.post("/v1/jobs", tags=["jobs"], status_code=202, openapi_extra=examples.REQUEST_BODY)
async def submit(
    request: Request,
    task: Annotated[str, Query(description="Id of a task.", json_schema_extra={"enum": list(TASKS)})],
) -> JobsAnswer:
    """Accept jobs, and answer at once; from then on they survive a restart."""
    _, jobs = await _accept(request, task)
    return JobsAnswer(jobs=[JobAnswer.of(job) for job in jobs])


@router.get("/v1/jobs/{job}", tags=["jobs"])
def status(request: Request, job: JobId) -> JobAnswer:
    """How far a job is."""
    return JobAnswer.of(_service(request).job(job))


@router.delete("/v1/jobs/{job}", tags=["jobs"])
def cancel(request: Request, job: JobId) -> JobAnswer:
    """Cancel a job; one that is finished stays as it is."""
    return JobAnswer.of(_service(request).cancel(job))


@router.get("/v1/jobs/{job}/result", tags=["jobs"], response_class=Response, responses=_RESULT)
async def result(request: Request, job: JobId, format: Format = None, response: Envelope | None = None) -> Response:
    """The result of a job that is done."""
    service = _service(request)
    answers.check_format(format)
    return await _answer(service, [await asyncio.to_thread(service.job, job)], format, response)


@router.get(
    "/v1/jobs/{job}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(request: Request, job: JobId) -> StreamingResponse:
    """Progress as server-sent events: `progress` with the job whenever it has moved on, at last its final state."""
    service = _service(request)
    await asyncio.to_thread(service.job, job)  # a job that is not there is a plain 404

    async def stream() -> AsyncIterator[str]:
        try:
            async for now in service.follow_async(job):
                name = now.state if now.is_finished else "progress"
                yield f"event: {name}\ndata: {JobAnswer.of(now).model_dump_json()}\n\n"
        except ServiceError as error:
            body = {"error": {"type": error.problem.kind, "message": error.problem.message}}
            yield f"event: error\ndata: {json.dumps(body)}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def _accept(request: Request, task: str) -> tuple[TaskOptions, list[Job]]:
    """Receive a request and put its jobs on disk."""
    service = _service(request)
    settings, found = service.settings, _find(task)
    await asyncio.to_thread(service.check_room)

    def store(body: Path) -> tuple[TaskOptions, list[Job]]:
        upload = uploads.parse(body, request.headers.get("content-type", ""), found, settings.max_images)
        answers.check_format(upload.options.format)
        works = (
            (upload.options.work(found.id, upload.options.seed + k), pictures)
            for k, pictures in enumerate(uploads.decoded_items(upload, settings.max_pixels))
        )
        return upload.options, service.submit_all(works)

    async with uploads.received(request, service.store.files.uploads, settings.max_upload * 1_000_000) as body:
        return await asyncio.get_running_loop().run_in_executor(_READERS, store, body)


def _find(task: str) -> Task:
    """The task of an id; an unknown one is a 404 here, where it is part of an address."""
    try:
        return find_task(task[:60])
    except InputError as error:
        raise ServiceError(Problem(404, "NotFound", str(error))) from None


async def _finished(service: Service, job: Job, request: Request, all_jobs: Sequence[Job]) -> None:
    """Wait for a job; when its client is gone, cancel all of the request."""
    async for _ in service.follow_async(job.id):
        if await request.is_disconnected():
            for other in all_jobs:
                await asyncio.to_thread(service.cancel, other.id)


async def _answer(service: Service, jobs: Sequence[Job], format: str | None, envelope: Envelope | None) -> FileResponse:
    """The results of jobs in one answer; its files are deleted when it is sent."""
    folder = Path(tempfile.mkdtemp(dir=service.store.files.uploads))

    def write() -> answers.Answer:
        stacks = [service.result(job.id) for job in jobs]
        files = [
            answers.encode(job, stack, format, _numbered(folder, k))
            for k, (job, stack) in enumerate(zip(jobs, stacks, strict=True))
        ]
        if envelope == "json":
            return answers.as_json(jobs, stacks, files, folder)
        if envelope == "multipart":
            return answers.mixed(jobs, files, folder)
        if envelope == "zip" or len(files) > 1:
            return answers.zipped(files, folder, "results.zip")
        return files[0]

    try:
        answer = await asyncio.get_running_loop().run_in_executor(_READERS, write)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        answer.file,
        media_type=answer.media_type,
        filename=answer.name,
        headers={"X-Job-Id": ",".join(job.id for job in jobs)},
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


def _numbered(folder: Path, k: int) -> Path:
    own = folder / str(k)
    own.mkdir()
    return own
