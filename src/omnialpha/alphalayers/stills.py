"""Qwen's processor for text and still pictures only: the stock one wants torchvision, for videos."""

from typing import Any

from transformers import PreTrainedTokenizerBase, Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor


class StillsProcessor(Qwen2VLProcessor):
    """Puts the tokens of pictures into the text, for Qwen2-VL, Qwen2.5-VL and Qwen3-VL alike.

    Args:
        image_processor: Cuts pictures into patches.
        tokenizer: Of the model.
        chat_template: Turns messages into text; only chat models have one.
    """

    def __init__(
        self,
        image_processor: Qwen2VLImageProcessorPil,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        # The names in this signature are the parts that are loaded and checked: without a video processor, none is.
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
