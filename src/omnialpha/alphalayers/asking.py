"""The captioner that asks a vision model: fills in the prompts, reads the replies, insists on useful ones."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from omnialpha.alphalayers import prompts
from omnialpha.errors import InputError, RefusedError, RejectedError
from omnialpha.imaging import rgba

if TYPE_CHECKING:
    from pathlib import Path

    from omnialpha.alphalayers.triplet import Triplet

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Replies to one question before the sample is rejected."""

LONGEST = 1024
"""Pixels of the longest side of a picture that is shown; captions need no more, and larger ones cost more."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One side's words in a conversation.

    Attributes:
        role: "user" or "assistant".
        text: The words.
        picture: Shown before the words.
    """

    role: str
    text: str
    picture: Image.Image | None = None


class Chat(Protocol):
    """A vision model to talk to; attributes, threads and errors as for `backends.Captioner`."""

    name: str
    settings: dict[str, Any]
    workers: int

    def reply(self, turns: Sequence[Turn], seed: int) -> str:
        """The model's next words; a model that draws does so by the seed."""


class AskingCaptioner:
    """A `backends.Captioner` that asks a model with the prompts of Appendix B.3.

    A reply that is no use is answered with what is wrong with it, in the same conversation, up to `ATTEMPTS` replies.

    Args:
        chat: The model.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        asked = prompts.FOREGROUND_CAPTION, prompts.composite_prompt(""), prompts.replace_prompt("")
        digest = hashlib.sha256("\0".join((*asked, prompts.BACKGROUND_CAPTION)).encode()).hexdigest()
        self.name, self.workers = chat.name, chat.workers
        self.settings = {**chat.settings, "attempts": ATTEMPTS, "longest_side": LONGEST, "prompts": digest[:16]}

    def caption_foreground(self, sample: "Triplet") -> str:
        """T_fg."""
        return self._ask("caption", prompts.FOREGROUND_CAPTION, sample.foreground, _sentence, sample.seed)

    def imagine(self, sample: "Triplet") -> str:
        """T_comp."""
        prompt = prompts.composite_prompt(sample.foreground_caption)
        return self._ask("imagine", prompt, sample.foreground, _sentence, sample.seed)

    def replace_instruction(self, sample: "Triplet") -> str:
        """T_rep."""
        prompt = prompts.replace_prompt(sample.composite_caption)
        return self._ask("instruct", prompt, sample.foreground, prompts.rewritten, sample.seed)

    def caption_background(self, sample: "Triplet") -> str:
        """T_bg."""
        assert sample.background is not None  # the stage before has made it
        return self._ask("caption_background", prompts.BACKGROUND_CAPTION, sample.background, _sentence, sample.seed)

    def _ask(self, stage: str, prompt: str, picture: "Path", read: Callable[[str], str], seed: int) -> str:
        """Ask until a reply can be read."""
        image = rgba.read(picture)
        image.thumbnail((LONGEST, LONGEST))
        turns = [Turn(role="user", text=prompt, picture=image)]
        for attempt in range(ATTEMPTS):
            try:
                reply = self._chat.reply(turns, seed + attempt)
            except RefusedError as error:
                raise RejectedError(stage, str(error)) from error
            try:
                return read(reply)
            except InputError as error:
                complaint = error
            logger.info("%s: reply %d of %d is no use: %s", stage, attempt + 1, ATTEMPTS, complaint)
            turns += [
                Turn(role="assistant", text=reply),
                Turn(role="user", text=f"Your last reply cannot be used: {complaint}."),
            ]
        raise RejectedError(
            stage, f"none of {ATTEMPTS} replies can be used, the last because {complaint}"
        ) from complaint


def _sentence(reply: str) -> str:
    r"""A description on one line, without what models like to put around it.

    Raises:
        InputError: Nothing is left.

    >>> _sentence(' Prompt: "A red kite\nover a beach." ')
    'A red kite over a beach.'
    """
    text = " ".join(reply.split()).removeprefix("Prompt:").strip().strip('"').strip()
    if not text:
        raise InputError("the reply is empty; answer with the description and nothing else")
    return text
