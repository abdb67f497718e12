"""Request bodies: streamed to disk up to a limit, then read as JSON or as a form, a few at a time.

Whatever its kind, a body is a file before anything looks into it; so memory does not depend on how many clients send.
The names that clients give to files are not used.
"""

import base64
import binascii
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from omnialpha.apps.server.problems import Problem, ServiceError
from omnialpha.apps.server.schemas import TaskOptions, TaskRequest
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging.decode import open_picture
from omnialpha.imaging.files import explained
from omnialpha.imaging.rgba import read
from omnialpha.tasks import SEVERAL, Task

JSON, FORM = "application/json", "multipart/form-data"
Images = Sequence[bytes | list[bytes]]
"""Pictures one after the other, or a list of them for each job."""

_CHUNK = 1 << 18
_MAX_FIELD = 16384  # bytes of a form field that is no file


@dataclass(frozen=True)
class Upload:
    """What a request asks for.

    Attributes:
        options: All but the pictures.
        items: For each job its pictures: the bytes of files, not yet decoded.
    """

    options: TaskOptions
    items: list[list[bytes]]


@asynccontextmanager
async def received(request: Request, folder: Path, limit: int) -> AsyncIterator[Path]:
    """Stream the body of a request to a file.

    Args:
        request: Not yet read.
        folder: Where to make a temporary folder for it.
        limit: Bytes of the largest body that is taken.

    Yields:
        The file `body` in a folder of its own, which is deleted at the end.

    Raises:
        ServiceError: The body is too large, breaks off, or says a length that is none.
    """
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal():
        raise ServiceError(Problem(400, "BadRequest", f"the content length is a number, not {announced[:20]!r}"))
    too_large = ServiceError(
        Problem(413, "UploadTooLarge", f"the request is larger than the {limit / 1e6:g} MB that are taken; send less")
    )
    if int(announced) > limit:
        raise too_large
    own = Path(tempfile.mkdtemp(dir=folder))
    try:
        size = 0
        with (own / "body").open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                file.write(chunk)
        yield own / "body"
    except ClientDisconnect as error:
        raise ServiceError(Problem(400, "BadRequest", "the request broke off; send it again")) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def parse(body: Path, content_type: str, task: Task, max_images: int) -> Upload:
    """Read a received body.

    Args:
        body: The file; larger parts of a form become files beside it.
        content_type: Header of the request.
        task: Says how many pictures a job takes.
        max_images: Pictures of a request.

    Raises:
        ServiceError: The content type is neither JSON nor a form.
        InputError: The content is not what the type says, or does not fit the schema or the task.
    """
    kind, parameters = parse_options_header(content_type)
    if kind.lower() == JSON.encode():
        options, images = _from_json(body)
    elif kind.lower() == FORM.encode():
        options, images = _from_form(body, parameters.get(b"boundary"))
    else:
        message = f'a request is {FORM} or {JSON}, not "{content_type[:80]}"; set the content type'
        raise ServiceError(Problem(415, "UnsupportedMediaType", message))
    items = _items(task, images)
    count = sum(map(len, items))
    if count > max_images:
        raise InputError(f"a request has at most {max_images} pictures, received {count}; send several requests")
    return Upload(options, items)


def decoded_items(upload: Upload, max_pixels: int) -> Iterator[list[Image.Image]]:
    """Decode the pictures of one job after the other, each once, after a look at its size.

    Yields:
        The "RGBA" pictures of a job: straight alpha, sRGB, upright.

    Raises:
        ImageError: A picture cannot be used; it is called by its number.
    """
    number = 0
    for item in upload.items:
        images = []
        for content in item:
            number += 1
            stream = _Named(content)
            stream.name = f"picture {number}"
            with explained(stream.name):
                width, height = open_picture(stream, stream.name).size
            if width * height > max_pixels:
                limit = f"more than the {max_pixels / 1e6:g} megapixels that are taken"
                raise ImageError(f"{stream.name} has {width}×{height} pixels, {limit}; make it smaller first")
            images.append(read(stream))
        yield images


class _Named(io.BytesIO):
    """The bytes of a picture with a name of ours for messages: a file's own says where temporary files are."""

    name: str


def _from_json(body: Path) -> tuple[TaskOptions, Images]:
    """Options and pictures of a JSON body."""
    try:
        request = TaskRequest.model_validate_json(body.read_bytes(), strict=True)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from error
    return request, [
        [_from_base64(text) for text in image] if isinstance(image, list) else _from_base64(image)
        for image in request.images
    ]


def _from_base64(text: str) -> bytes:
    """The bytes of a picture; a data URL, which browsers make, is understood as well."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"a picture in JSON is base64 ({error}); encode the bytes of its file") from error


def _from_form(body: Path, boundary: bytes | None) -> tuple[TaskOptions, list[bytes]]:
    """Options and pictures of a form: fields, and files in fields called `image`."""
    fields: dict[str, str] = {}
    files: list[bytes] = []

    def on_field(field: Field) -> None:
        name, value = (field.field_name or b"", field.value or b"")
        if len(value) > _MAX_FIELD:
            raise InputError(f"the field {_text(name)!r} is too long; send pictures as files, with a file name")
        if _text(name) in fields:
            raise InputError(f"the field {_text(name)!r} comes twice; send it once")
        fields[_text(name)] = _text(value)

    def on_file(file: File) -> None:
        if file.field_name != b"image":
            raise InputError(f"pictures come in fields called 'image', not {_text(file.field_name or b'')!r}")
        file.file_object.seek(0)
        files.append(file.file_object.read())
        file.close()

    try:
        parser = FormParser(
            FORM,
            on_field,
            on_file,
            boundary=boundary,
            config={"UPLOAD_DIR": str(body.parent), "UPLOAD_KEEP_FILENAME": False},
        )
        with body.open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                parser.write(chunk)
        parser.finalize()
        return TaskOptions.model_validate(fields), files
    except FormParserError as error:
        raise InputError(f"this is no complete form ({' '.join(str(error).split())[:100]}); send it again") from error
    except ValidationError as error:
        raise InputError(_first_problem(error)) from error


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("a field of the form is not UTF-8; encode it") from error


def _items(task: Task, images: Images) -> list[list[bytes]]:
    """Pictures by job: lists as they are; a flat list holds jobs one after the other, where their number allows."""
    flat = [image for image in images if isinstance(image, bytes)]
    items = [image for image in images if isinstance(image, list)]
    if not items:
        slots = len(task.inputs)
        several = slots > 0 and SEVERAL not in task.inputs and len(flat) > slots and len(flat) % slots == 0
        items = [flat[i : i + slots] for i in range(0, len(flat), slots)] if several else [flat]
    for item in items:
        task.check_images(len(item))
    return items


def _first_problem(error: ValidationError) -> str:
    """The first complaint, in one line, without the value, which may be a picture."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("list["))
    return f"{place or 'the request'}: {problem['msg']}"
