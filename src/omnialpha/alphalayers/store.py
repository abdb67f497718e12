"""What stages have answered, under the hash of what they were asked: `OUT/store/<stage>/<key[:2]>/<key>.json`.

The pictures of a result lie beside it as `<key>.<name>.png`. They are written first and the record last, each
atomically, so a record that is there is whole, whenever its writer was killed. Equal questions have equal keys, and
nothing of the order or the clock is in a key: whoever asks again, in any order and on any machine, finds the answer.
Failures are kept as `<key>.error.json` until somebody asks to try again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write
from omnialpha.imaging.rgba import save_png

REJECTED, FAILED = "rejected", "failed"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a stage is asked.

    Attributes:
        stage: Its name.
        version: Of its code; raised when its answers change.
        settings: Of its backend: everything that changes its answers, as JSON.
        inputs: What it reads of the sample, as JSON.
    """

    stage: str
    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Hex digest of all of it.

        >>> a = Question(stage="edit", version=1, inputs={"id": "0", "text": "a"})
        >>> b = Question(stage="edit", version=1, inputs={"text": "a", "id": "0"})
        >>> a.key == b.key, len(a.key)
        (True, 64)
        """
        asked = [self.stage, self.version, self.settings, self.inputs]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a sample has no result.

    Attributes:
        kind: "rejected" when an answer was not good enough, which asking again would not change; "failed" otherwise.
        reason: In one line.
    """

    kind: str
    reason: str


class Store:
    """A folder of results. Threads, processes and machines may share it.

    Args:
        folder: Made with the first result.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, question: Question) -> dict[str, Any] | None:
        """Look a result up.

        Args:
            question: As it was asked.

        Returns:
            What the stage answered; None when there is no answer yet.

        Raises:
            InputError: The record is damaged.
        """
        record = _read(self._file(question.stage, question.key, ".json"))
        return None if record is None else record["result"]

    def read(self, stage: str, key: str) -> dict[str, Any]:
        """The whole record of a stage: what was asked, of whom, when, what was answered, how long it took.

        Args:
            stage: Its name.
            key: Of the record, as `Triplet.stages` and the manifest have it.

        Raises:
            InputError: There is none, or it is damaged.
        """
        file = self._file(stage, key, ".json")
        record = _read(file)
        if record is None:
            raise InputError(f"{file}: is not in the store; run `omnialpha data build` again, it will be made anew")
        return record

    def failure(self, question: Question) -> Failure | None:
        """Look up why there is no result; None when there is one, or nothing was recorded.

        Raises:
            InputError: The record is damaged.
        """
        record = _read(self._file(question.stage, question.key, ".error.json"))
        return None if record is None else Failure(kind=record["kind"], reason=record["reason"])

    def picture(self, stage: str, key: str, name: str) -> Path:
        """Where a picture of a result is, whether it is there or not."""
        return self._file(stage, key, f".{name}.png")

    def put(
        self,
        question: Question,
        result: Mapping[str, Any],
        pictures: Mapping[str, Image.Image] | None = None,
        *,
        backend: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Keep a result, with what was asked, of whom, and how long it took.

        Args:
            question: What was asked.
            result: Its values, as JSON.
            pictures: Its pictures, see `picture`.
            backend: Who answered.
            seconds: How long it took; belongs to the record, not to the result.

        Raises:
            OutputError: It cannot be written.
        """
        for name, image in (pictures or {}).items():
            save_png(image, self.picture(question.stage, question.key, name), overwrite=True)
        answer = {"backend": backend, "result": dict(result), "seconds": round(seconds, 3)}
        self._write(question, ".json", answer)
        self._file(question.stage, question.key, ".error.json").unlink(missing_ok=True)

    def put_failure(self, question: Question, failure: Failure, *, backend: str = "") -> None:
        """Keep the reason why there is no result.

        Raises:
            OutputError: It cannot be written.
        """
        self._write(question, ".error.json", {"backend": backend, "kind": failure.kind, "reason": failure.reason})

    def _file(self, stage: str, key: str, ending: str) -> Path:
        return self.folder / stage / key[:2] / f"{key}{ending}"

    def _write(self, question: Question, ending: str, answer: Mapping[str, Any]) -> None:
        record = {
            "stage": question.stage,
            "version": question.version,
            "settings": question.settings,
            "inputs": question.inputs,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            **answer,
        }
        with atomic_write(self._file(question.stage, question.key, ending), overwrite=True) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file}: is no record of a stage ({error}); delete it to run the stage again") from error
    return record
