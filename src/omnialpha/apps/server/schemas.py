"""Requests and answers as clients see them; FastAPI writes the OpenAPI document from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from omnialpha.apps.server.jobs import Job, State, Work

Envelope = Literal["file", "zip", "multipart", "json"]

EXAMPLE_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEVajMjcPCgNSBR1AAAAFElEQVR42mNgQALsH5gYGLAiOAAA"
    "Im0BCHnCC5oAAAAASUVORK5CYII="
)
"""A red square on blue, 16 × 16 pixels: a PNG in base64, for the examples."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="Same seed, same noise; the k-th job gets seed + k.")]


class TaskOptions(BaseModel):
    """What may be asked for besides pictures."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str | None, Field(max_length=2000, description="Caption, for tasks that take one.")] = None
    seed: Seed = 0
    steps: Annotated[int | None, Field(ge=1, description="Sampling steps. Default: the model's.")] = None
    guidance: Annotated[
        float | None, Field(ge=0, le=100, allow_inf_nan=False, description="True CFG scale. Default: the model's.")
    ] = None
    layers: Annotated[int | None, Field(ge=1, description="Layers of a result. Default: the task's smallest.")] = None
    width: Annotated[int | None, Field(ge=1, le=65536, description="Of the result. Default: the picture's.")] = None
    height: Annotated[int | None, Field(ge=1, le=65536, description="Of the result. Default: the picture's.")] = None
    refine: Annotated[
        bool | None,
        Field(description="Bring layers to the picture's resolution. Default: where the model works at a smaller one."),
    ] = None
    format: Annotated[
        str | None, Field(description="Suffix of the result's format, as `GET /v1/tasks` lists them.", max_length=20)
    ] = None
    response: Annotated[
        Envelope | None,
        Field(description="How results come. Default: one as a file, several as a zip."),
    ] = None

    def work(self, task: str, seed: int) -> Work:
        """The same for the queue."""
        return Work(task=task, seed=seed, **self.model_dump(exclude={"seed", "response", "images"}))


Base64 = Annotated[str, Field(description="A picture file in base64.", json_schema_extra={"contentEncoding": "base64"})]


class TaskRequest(TaskOptions):
    """The same with pictures, as JSON."""

    images: Annotated[
        list[Base64] | list[list[Base64]],
        Field(
            description="Pictures in the task's order, for one job or several one after the other; "
            "or a list of such lists, one for each job."
        ),
    ] = []


class ErrorBody(BaseModel):
    """What went wrong."""

    type: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorBody


class JobAnswer(BaseModel):
    """A job."""

    id: str
    task: str
    state: State
    step: Annotated[int, Field(description="Sampling steps done.")]
    steps: Annotated[int, Field(description="Sampling steps in all.")]
    seed: int
    created: Annotated[float, Field(description="Seconds since 1970.")]
    started: float | None
    finished: float | None
    error: ErrorBody | None

    @classmethod
    def of(cls, job: Job) -> "JobAnswer":
        """A job as clients see it."""
        problem = job.problem
        return cls(
            id=job.id,
            task=job.work.task,
            state=job.state,
            step=job.step,
            steps=job.steps,
            seed=job.work.seed,
            created=job.created,
            started=job.started,
            finished=job.finished,
            error=None if problem is None else ErrorBody(type=problem.kind, message=problem.message),
        )


class JobsAnswer(BaseModel):
    """Accepted jobs, one for each item of the request."""

    jobs: list[JobAnswer]


class ResultFile(BaseModel):
    """A result inside a JSON answer."""

    job: str
    name: str
    media_type: str
    data: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
    metadata: dict[str, Any]


class ResultsAnswer(BaseModel):
    """All results of a request."""

    results: list[ResultFile]


class TaskAnswer(BaseModel):
    """A task."""

    id: str
    category: str
    inputs: list[str]
    targets: list[str]
    text: str | None


class TasksAnswer(BaseModel):
    """The tasks, and the formats of results."""

    tasks: list[TaskAnswer]
    formats: list[str]


class ModelAnswer(BaseModel):
    """The loaded model."""

    model: str
    adapter: str | None
    model_hash: str
    device: str
    dtype: str
    memory: str
    version: str
    profile: str
    steps: int
    guidance: float
    grid: int
    max_area: int | None


class ModelsAnswer(BaseModel):
    """The models of the service."""

    models: list[ModelAnswer]


class HealthAnswer(BaseModel):
    """Whether the service works, and how much there is to do."""

    status: Literal["ok", "draining", "failing"]
    queued: int
    running: int
    version: str
