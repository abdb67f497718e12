"""What went wrong, for a client: a status, a kind and one line; never a stack trace."""

from dataclasses import dataclass

from omnialpha.apps.loading import is_out_of_memory
from omnialpha.errors import (
    CheckpointError,
    EndpointError,
    ImageError,
    InputError,
    MissingExtraError,
    OmniAlphaError,
    OutputError,
)

_STATUS: dict[type[OmniAlphaError], int] = {
    ImageError: 422,
    InputError: 422,
    MissingExtraError: 501,
    OutputError: 507,
    CheckpointError: 500,
    EndpointError: 502,
}

INTERNAL = "the service failed at this request; its log says why, tell whoever runs it"


@dataclass(frozen=True)
class Problem:
    """An error as clients see it.

    Attributes:
        status: HTTP status.
        kind: Name for programs.
        message: One line for people.
        retry_after: Seconds after which to try again, where that makes sense.
    """

    status: int
    kind: str
    message: str
    retry_after: int | None = None


class ServiceError(OmniAlphaError):
    """An error that only a service has: no room, no key, no such job.

    Args:
        problem: What the client is told.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: BaseException) -> Problem:
    """What a client is told about an error.

    Errors that the library raises on purpose are told as they are; of all others only that they happened, since
    their text may hold paths and data of other people.

    >>> problem_of(InputError("matting_auto takes 1 image, received 2"))
    Problem(status=422, kind='InputError', message='matting_auto takes 1 image, received 2', retry_after=None)
    >>> problem_of(KeyError("/srv/secret")).status
    500
    """
    if isinstance(error, ServiceError):
        return error.problem
    for family, status in _STATUS.items():
        if isinstance(error, family):
            return Problem(status, family.__name__, " ".join(str(error).split()))
    if is_out_of_memory(error):
        return Problem(
            507, "OutOfMemory", "not enough memory for this job; send smaller pictures or ask for fewer layers"
        )
    return Problem(500, "InternalError", INTERNAL)


def not_found(job_id: str) -> ServiceError:
    """There is no such job, or it was forgotten."""
    return ServiceError(Problem(404, "NotFound", f'no job "{job_id[:40]}"; finished jobs are kept for a while only'))


def queue_full(waiting: int, retry_after: int) -> ServiceError:
    """There are too many jobs waiting."""
    return ServiceError(
        Problem(429, "QueueFull", f"{waiting} jobs are waiting already; try again in {retry_after} s", retry_after)
    )


def shutting_down(job_id: str) -> ServiceError:
    """The service ends before the job's turn."""
    message = f"the service is restarting; job {job_id} is kept: ask /v1/jobs/{job_id} in a moment"
    return ServiceError(Problem(503, "ShuttingDown", message, 5))
