"""What is said to a remote model, what it answers, and the folder that keeps the answers: one JSON file per request."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write

Message = dict[str, Any]


def user_message(*parts: str | Image.Image) -> Message:
    """A user's message of texts and pictures, in their order.

    Args:
        parts: Texts, and pictures of any mode; transparent ones are laid over white, as vision models are used to.

    Returns:
        The message, with pictures as PNG data addresses.
    """
    return {"role": "user", "content": [_part(part) for part in parts]}


def over_white(picture: Image.Image) -> Image.Image:
    """A picture of any mode over a white page, "RGB": how vision models are shown transparent ones."""
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What some replies took; adds up.

    Attributes:
        replies: How many.
        input_tokens: Of those that say so.
        output_tokens: Likewise.
        unmetered: Replies of a service that did not say.

    >>> sum([Usage(replies=1, input_tokens=900, output_tokens=40), Usage(replies=1, unmetered=1)], Usage())
    Usage(replies=2, input_tokens=900, output_tokens=40, unmetered=1)
    """

    replies: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            replies=self.replies + other.replies,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            unmetered=self.unmetered + other.unmetered,
        )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer of the model.

    Attributes:
        text: What it says; empty where it declined to say anything.
        usage: Its tokens.
        file: Where the whole answer is kept, relative to the folder of replies.
    """

    text: str
    usage: Usage
    file: str

    @classmethod
    def read(cls, answer: Mapping[str, Any], file: str) -> "Reply":
        """Take the parts out of an answer that `fits`."""
        counts = answer.get("usage") or {}
        given, made = counts.get("prompt_tokens"), counts.get("completion_tokens")
        if isinstance(given, int) and isinstance(made, int):
            usage = Usage(replies=1, input_tokens=given, output_tokens=made)
        else:
            usage = Usage(replies=1, unmetered=1)
        return cls(text=answer["choices"][0]["message"]["content"] or "", usage=usage, file=file)

    @staticmethod
    def fits(answer: Any) -> bool:
        """Whether an answer is a chat completion with a text, or without one because the model declined.

        >>> Reply.fits({"choices": [{"message": {"content": "yes"}}]}), Reply.fits({"choices": []})
        (True, False)
        """
        try:
            content = answer["choices"][0]["message"]["content"]
            counts = answer.get("usage") or {}
        except (KeyError, IndexError, TypeError):
            return False
        return (content is None or isinstance(content, str)) and isinstance(counts, dict)


class Replies:
    """A folder of replies. Processes may share it: a file appears whole, and equal requests have equal names.

    Args:
        folder: Made with the first reply.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def find(self, body: Mapping[str, Any]) -> Reply | None:
        """Look a request up.

        Args:
            body: The request as it would be sent.

        Returns:
            Its reply; None when there is none yet.

        Raises:
            InputError: The file is damaged.
        """
        name = _name(body)
        file = self.folder / name
        if not file.is_file():
            return None
        try:
            answer = json.loads(file.read_text(encoding="utf-8"))["answer"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: is no stored reply; delete it to ask again") from error
        if not Reply.fits(answer):
            raise InputError(f"{file}: is no stored reply; delete it to ask again")
        return Reply.read(answer, name)

    def store(self, body: Mapping[str, Any], address: str, answer: Mapping[str, Any]) -> Reply:
        """Keep a reply, with its request and where it came from.

        Args:
            body: The request as it was sent; of its pictures only hashes are kept.
            address: Who answered.
            answer: Everything that was answered; it `Reply.fits`.

        Returns:
            The reply, on disk.

        Raises:
            OutputError: It cannot be written.
        """
        name = _name(body)
        record = {
            "address": address,
            "received": datetime.now(UTC).isoformat(timespec="seconds"),
            "request": _without_pictures(body),
            "answer": answer,
        }
        with atomic_write(self.folder / name, overwrite=True) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
        return Reply.read(answer, name)


def _name(body: Mapping[str, Any]) -> str:
    """File of a request. The address is no part of it: a local server on another port is the same model."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:34]}.json"  # in subfolders: a million captions fit


def _without_pictures(value: Any) -> Any:
    """The same JSON with hashes in the place of pictures."""
    if isinstance(value, str) and value.startswith("data:image/"):
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    if isinstance(value, Mapping):
        return {name: _without_pictures(item) for name, item in value.items()}
    return [_without_pictures(item) for item in value] if isinstance(value, list) else value


def _part(part: str | Image.Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    buffer = io.BytesIO()
    over_white(part).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
