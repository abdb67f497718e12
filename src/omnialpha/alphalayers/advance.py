"""One sample, one stage further: from the store when the same was asked before, else by running the stage.

Everything that carries samples through the stages, in threads or on a cluster, calls `advance` and nothing else.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnialpha.alphalayers.stages import Stage
from omnialpha.alphalayers.store import FAILED, REJECTED, Failure, Question, Store
from omnialpha.alphalayers.triplet import PICTURES, Triplet
from omnialpha.errors import (
    CheckpointError,
    EndpointError,
    MissingExtraError,
    OutputError,
    RefusedError,
    RejectedError,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A sample that ends at a stage.

    Attributes:
        id: Of the sample; "" before it is known.
        name: Data set and entry.
        stage: Where it ends.
        kind: "rejected", "failed", or "dropped" by a choice among all samples.
        reason: In one line.
    """

    id: str
    name: str
    stage: str
    kind: str
    reason: str


_DEFAULTS: Mapping[str, Any] = {
    **{f.name: f.default for f in dataclasses.fields(Triplet) if f.default is not dataclasses.MISSING},
    **{"seed": 0, "name": "", "source": "", "identity": ""},
}
"""What a backend sees of the fields that its stage does not read: so nothing can enter an answer but not its key."""


def ask(stage: Stage, sample: Triplet, backend: Any) -> Question:
    """What a stage asks about a sample: its key in the store follows from it.

    Args:
        stage: Of `STAGES`.
        sample: As the stages before have left it.
        backend: With `settings`; None for a stage without one.
    """
    inputs: dict[str, Any] = {"id": sample.id}
    for name in stage.reads:
        value = getattr(sample, name)
        # The name of a picture in the store says what it is made of: its folder does not matter.
        inputs[name] = value.name if isinstance(value, Path) else value
    settings = {} if backend is None else backend.settings
    return Question(stage=stage.name, version=stage.version, settings=settings, inputs=inputs)


def advance(
    stage: Stage, sample: Triplet, backend: Any, store: Store, *, retry_failed: bool = False
) -> Triplet | Dropped:
    """Bring a sample one stage further. The same call has the same result on any thread or machine.

    Args:
        stage: Of `STAGES`.
        sample: As the stages before have left it.
        backend: Of the stage's role; None where it has none.
        store: Where answers are found and kept.
        retry_failed: Run the stage again where it failed before. What was rejected stays so.

    Returns:
        The sample with the stage's fields, or why it ends here.

    Raises:
        EndpointError: No sample can be done: an endpoint does not answer or its budget is spent.
        CheckpointError: Likewise: weights are missing.
        MissingExtraError: Likewise: a package is missing.
        OutputError: An answer cannot be kept.
    """
    found = lookup(stage, sample, backend, store)
    if found is None or (retry_failed and isinstance(found, Dropped) and found.kind == FAILED):
        _run(stage, sample, backend, store)
        found = lookup(stage, sample, backend, store)
        assert found is not None
    return found


def lookup(stage: Stage, sample: Triplet, backend: Any, store: Store) -> Triplet | Dropped | None:
    """What `advance` would return if it need not run anything; None where it would have to.

    Args:
        stage: As for `advance`.
        sample: As for `advance`.
        backend: As for `advance`; only its settings are used.
        store: As for `advance`.
    """
    question = ask(stage, sample, backend)
    result = store.find(question)
    if result is not None:
        return _filled(stage, sample, store, question, result)
    failure = store.failure(question)
    if failure is None:
        return None
    return Dropped(id=sample.id, name=sample.name, stage=stage.name, kind=failure.kind, reason=failure.reason)


def _run(stage: Stage, sample: Triplet, backend: Any, store: Store) -> None:
    """Run a stage and keep its answer, or the reason why there is none."""
    question = ask(stage, sample, backend)
    name = "" if backend is None else backend.name
    unseen = {field: default for field, default in _DEFAULTS.items() if field not in stage.reads}
    begun = time.perf_counter()
    try:
        answer = stage.run(dataclasses.replace(sample, **unseen), backend)
    except RejectedError as error:
        failure = Failure(kind=REJECTED, reason=error.reason)
    except RefusedError as error:
        failure = Failure(kind=FAILED, reason=str(error))
    except (CheckpointError, EndpointError, MissingExtraError, OutputError):
        raise  # it would be the same for every sample
    except Exception as error:  # a model may break on one picture in any way, which must not end the run for all others
        failure = Failure(kind=FAILED, reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
        logger.debug("%s: %s failed", sample.name, stage.name, exc_info=True)
    else:
        result = {"values": dict(answer.values), "pictures": sorted(answer.pictures)}
        store.put(question, result, answer.pictures, backend=name, seconds=time.perf_counter() - begun)
        return
    logger.warning("%s: %s: %s", sample.name, stage.name, failure.reason)
    store.put_failure(question, failure, backend=name)


def _filled(stage: Stage, sample: Triplet, store: Store, question: Question, result: Mapping[str, Any]) -> Triplet:
    """The sample with what a stage found."""
    values: dict[str, Any] = {name: value for name, value in result["values"].items() if name in _DEFAULTS}
    for name in result["pictures"]:
        if name in PICTURES:
            values[name] = store.picture(stage.name, question.key, name)
    stages = {**sample.stages, stage.name: question.key}
    return dataclasses.replace(sample, **values, stages=stages)
