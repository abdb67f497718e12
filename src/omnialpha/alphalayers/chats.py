"""Vision models to ask: any OpenAI-compatible service, or Qwen3-VL in this process."""

import os
import threading
from collections.abc import Sequence
from typing import Any

from omnialpha.alphalayers.asking import Turn
from omnialpha.alphalayers.weights import identity
from omnialpha.errors import CheckpointError, InputError
from omnialpha.evaluation.chat import Message, over_white, user_message
from omnialpha.evaluation.endpoint import Endpoint, EndpointSettings
from omnialpha.hub import folder_or_fetch

_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")


class EndpointChat:
    """A service, through the patient client of `evaluation.endpoint`.

    Args:
        name: The line of text that made it.
        target: "ADDRESS#MODEL".
        replies: Folder that keeps the replies.
        key: Environment variable with the key, if set.
        parameters: Sent with every request, as ``{"max_tokens": 300}``; the temperature is 0 unless set.
        workers: Requests at a time.
        timeout: As the rest, see `EndpointSettings`.
        retries: See there.
        first_wait: See there.
        requests_per_minute: See there.
        input_price: See there.
        output_price: See there.
        budget: See there.

    Raises:
        InputError: The target or a setting is impossible.
        MissingExtraError: The extra "endpoint" is not installed.
    """

    def __init__(
        self,
        name: str,
        target: str,
        *,
        replies: str,
        key: str = "OPENAI_API_KEY",
        parameters: dict[str, Any] | None = None,
        workers: int = 8,
        timeout: float = 120.0,
        retries: int = 6,
        first_wait: float = 1.0,
        requests_per_minute: float | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
        budget: float | None = None,
    ) -> None:
        url, _, model = target.partition("#")
        if not model:
            raise InputError(f'"{name}": names no model; write endpoint:{url}#MODEL')
        settings = EndpointSettings(
            url=url,
            model=model,
            parameters={"temperature": 0} | (parameters or {}),
            timeout=timeout,
            retries=retries,
            first_wait=first_wait,
            requests_per_minute=requests_per_minute,
            input_price=input_price,
            output_price=output_price,
            budget=budget,
        )
        self._endpoint = Endpoint(settings, cache=replies, api_key=os.environ.get(key))
        self.name, self.workers = name, workers
        # Not the address: the same model behind another one gives the same answers.
        self.settings = {"kind": "endpoint", "model": model, "parameters": dict(settings.parameters)}

    def reply(self, turns: Sequence[Turn], seed: int) -> str:
        """Ask the service, or find its earlier reply; it has no use for the seed."""
        return self._endpoint.ask([_message(turn) for turn in turns]).text


class TransformersChat:
    """Qwen3-VL, or another model of its family, loaded when it is first asked.

    Args:
        name: The line of text that made it.
        target: Folder or hub id.
        max_new_tokens: Longest reply.
        temperature: 0 for the likeliest reply; above, replies are drawn by the sample's seed.
        device: Default: a GPU if any.
        dtype: Default: the device's.

    Raises:
        CheckpointError: The weights are not there and cannot be downloaded.
    """

    def __init__(
        self,
        name: str,
        target: str,
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self._folder = folder_or_fetch(target, _FILES)
        self._limit, self._temperature, self._device, self._dtype = max_new_tokens, temperature, device, dtype
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()
        self.name, self.workers = name, 1
        self.settings = {
            "kind": "transformers",
            "weights": identity(self._folder),
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": "the sample's" if temperature else "none",
            "dtype": dtype,
        }

    def reply(self, turns: Sequence[Turn], seed: int) -> str:
        """Generate the next words."""
        import torch

        pictures = [over_white(turn.picture) for turn in turns if turn.picture is not None]
        drawing = {"do_sample": True, "temperature": self._temperature} if self._temperature else {"do_sample": False}
        with self._lock, torch.inference_mode():
            model, processor = self._loaded = self._loaded or self._load()
            text = processor.apply_chat_template(
                [_message_for_template(turn) for turn in turns], add_generation_prompt=True
            )
            inputs = processor(text=[text], images=pictures, return_tensors="pt").to(model.device)
            with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(seed)
                tokens = model.generate(**inputs, max_new_tokens=self._limit, **drawing)
            new = tokens[0, inputs["input_ids"].shape[1] :]
            reply: str = processor.tokenizer.decode(new, skip_special_tokens=True)
        return reply

    def _load(self) -> tuple[Any, Any]:
        """Model and processor."""
        from transformers import AutoModelForImageTextToText

        from omnialpha.alphalayers.stills import StillsProcessor
        from omnialpha.checkpoints import choose_device, choose_dtype

        device = choose_device(self._device)
        try:
            model, report = AutoModelForImageTextToText.from_pretrained(
                self._folder, dtype=choose_dtype(self._dtype, device), output_loading_info=True
            )
            processor = StillsProcessor.from_pretrained(self._folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{self._folder}: cannot be loaded as a vision model ({reason}); give a complete copy of one, "
                "such as Qwen/Qwen3-VL-8B-Instruct"
            ) from error
        if report["missing_keys"]:
            raise CheckpointError(
                f"{self._folder}: {len(report['missing_keys'])} weights are missing; download or save it again"
            )
        return model.to(device).eval(), processor


def _message(turn: Turn) -> Message:
    if turn.role == "user":
        return user_message(*([turn.text] if turn.picture is None else [turn.picture, turn.text]))
    return {"role": turn.role, "content": turn.text}


def _message_for_template(turn: Turn) -> Message:
    """As the chat templates of transformers want it: pictures are given apart from the text."""
    picture = [] if turn.picture is None else [{"type": "image"}]
    return {"role": turn.role, "content": [*picture, {"type": "text", "text": turn.text}]}
