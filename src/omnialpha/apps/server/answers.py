"""Layer stacks as answers: one file, a zip, a multipart message or JSON."""

import base64
import json
import mimetypes
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnialpha import formats
from omnialpha.apps.server.jobs import Job
from omnialpha.apps.server.schemas import ResultFile, ResultsAnswer
from omnialpha.errors import InputError, nearest
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import save_png

ZIP, MIXED, PNG = "application/zip", "multipart/mixed", "image/png"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in a zip: same layers, same bytes
_MEDIA_TYPES = {
    ".psd": "image/vnd.adobe.photoshop",
    ".psb": "image/vnd.adobe.photoshop",
    ".ora": "image/openraster",
    ".exr": "image/x-exr",
    ".webp": "image/webp",
    ".avif": "image/avif",
}


@dataclass(frozen=True)
class Answer:
    """The body of an answer.

    Attributes:
        file: Its content.
        media_type: What it is.
        name: What to save it as.
    """

    file: Path
    media_type: str
    name: str


def offered() -> list[str]:
    """The formats of results: suffixes without their dots.

    >>> "psd" in offered(), "png" in offered()
    (True, True)
    """
    return sorted({"png", *(suffix[1:] for suffix in formats.SUFFIXES if suffix)})


def check_format(name: str | None) -> None:
    """Refuse a format that is not offered.

    Raises:
        InputError: It is unknown; the message names the nearest one.
    """
    if name is not None and name not in offered():
        raise InputError(f'unknown format "{name[:20]}", use {", ".join(offered())}{nearest(name, offered())}')


def media_type(suffix: str) -> str:
    """The media type of a file's suffix.

    >>> media_type(".psd"), media_type(".png")
    ('image/vnd.adobe.photoshop', 'image/png')
    """
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def media_types() -> list[str]:
    """All media types that answers may have."""
    return sorted({*(media_type(f".{name}") for name in offered()), "application/json", MIXED, PNG, ZIP})


def encode(job: Job, stack: LayerStack, format: str | None, folder: Path) -> Answer:
    """Write one result.

    Args:
        job: Its job, which says the wanted format if `format` does not.
        stack: Its layers.
        format: One of `offered`. By default PNG for one layer, PSD for several; several as PNG are a zip of them.
        folder: Where.

    Raises:
        InputError: The format cannot hold these layers.
        MissingExtraError: A package for the format is not installed.
    """
    chosen = format or job.work.format or ("png" if len(stack) == 1 else "psd")
    stem = f"{job.work.task}-{job.work.seed}-{job.id[:8]}"
    if chosen != "png":
        path = folder / f"{stem}.{chosen}"
        stack.save(path)
        return Answer(path, media_type(path.suffix), path.name)
    if len(stack) == 1:
        path = folder / f"{stem}.png"
        save_png(stack[0].image, path, stack.metadata)
        return Answer(path, PNG, path.name)
    stack.save(folder / stem)
    return zipped([Answer(path, PNG, path.name) for path in sorted((folder / stem).iterdir())], folder, f"{stem}.zip")


def zipped(answers: Sequence[Answer], folder: Path, name: str) -> Answer:
    """Put answers into one zip. What they hold is compressed already, so it is stored."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for answer in answers:
            archive.writestr(zipfile.ZipInfo(answer.name, _EPOCH), answer.file.read_bytes())
    return Answer(path, ZIP, name)


def mixed(jobs: Sequence[Job], answers: Sequence[Answer], folder: Path) -> Answer:
    """Put answers into one multipart message, each with the id of its job."""
    boundary = secrets.token_hex(16)
    path = folder / "results"
    with path.open("wb") as file:
        for job, answer in zip(jobs, answers, strict=True):
            head = (
                f"--{boundary}\r\nContent-Type: {answer.media_type}\r\nX-Job-Id: {job.id}\r\n"
                f'Content-Disposition: attachment; filename="{answer.name}"\r\n\r\n'
            )
            file.write(head.encode("ascii") + answer.file.read_bytes() + b"\r\n")
        file.write(f"--{boundary}--\r\n".encode("ascii"))
    return Answer(path, f"{MIXED}; boundary={boundary}", path.name)


def as_json(jobs: Sequence[Job], stacks: Sequence[LayerStack], answers: Sequence[Answer], folder: Path) -> Answer:
    """Put answers into JSON, in base64."""
    results = [
        ResultFile(
            job=job.id,
            name=answer.name,
            media_type=answer.media_type,
            data=base64.b64encode(answer.file.read_bytes()).decode("ascii"),
            metadata=stack.metadata,
        )
        for job, stack, answer in zip(jobs, stacks, answers, strict=True)
    ]
    path = folder / "results.json"
    path.write_text(json.dumps(ResultsAnswer(results=results).model_dump()), encoding="utf-8")
    return Answer(path, "application/json", path.name)
