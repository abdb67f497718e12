"""What Prometheus can ask about a service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The figures of one service.

    Attributes:
        requests: HTTP requests by route and status.
        request_seconds: How long they took, by route.
        jobs: Finished jobs by task and state.
        job_seconds: From acceptance to result, by task.
        batch_size: Jobs of a batch.
        batch_seconds: Time of the model for a batch, by task.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()  # of its own: several services may live in a process
        ProcessCollector(registry=registry)
        self.requests = Counter("omnialpha_requests", "HTTP requests", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "omnialpha_request_seconds", "Seconds of a request", ["route"], buckets=_SECONDS, registry=registry
        )
        self.jobs = Counter("omnialpha_jobs", "Finished jobs", ["task", "state"], registry=registry)
        self.job_seconds = Histogram(
            "omnialpha_job_seconds", "Seconds to a result", ["task"], buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "omnialpha_batch_size", "Jobs of a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.batch_seconds = Histogram(
            "omnialpha_batch_seconds", "Seconds of the model", ["task"], buckets=_SECONDS, registry=registry
        )
        self._queue = Gauge("omnialpha_queue", "Jobs in the store", ["state"], registry=registry)

    def text(self, counts: dict[str, int]) -> bytes:
        """All figures in Prometheus' text format.

        Args:
            counts: Number of jobs by state, as the store has them now.
        """
        for state in ("queued", "running"):
            self._queue.labels(state).set(counts.get(state, 0))
        return generate_latest(self._registry)
