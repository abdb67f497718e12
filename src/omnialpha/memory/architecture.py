"""What the configurations of a checkpoint say, without its weights: enough to build its pipeline on meta tensors."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from safetensors import safe_open
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from omnialpha.errors import CheckpointError
from omnialpha.models.lora import ATTENTION_TARGETS, MLP_TARGETS, WEIGHTS_NAME, add_lora
from omnialpha.models.profile import RELEASED, Profile
from omnialpha.pipeline import OmniAlphaPipeline

VLM_7B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    },
}
"""The VLM of Qwen-Image-Edit-2509; transformer and VAE are their classes' defaults."""

FEW = 3
"""Blocks that a small model has: a first one, a last one, and one between them, which may differ."""

CHARACTERS_PER_TOKEN = 4  # of English, about


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shapes of a checkpoint.

    Attributes:
        name: shown to users.
        transformer: configuration of the transformer.
        vae: of the RGBA VAE.
        text_encoder: of the VLM.
        scheduler: of the scheduler.
        image_processor: of the VLM's pictures; empty: its class's defaults.
        profile: how the checkpoint is used.
        lora: rank and target layers of the attached adapter; None without one.
    """

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    image_processor: Mapping[str, Any]
    profile: Profile
    lora: tuple[int, tuple[str, ...]] | None = None

    @classmethod
    def released(cls) -> "Architecture":
        """Qwen-Image-Edit-2509 with the authors' adapter: known without a file."""
        return cls(
            name="omnialpha",
            transformer={"num_layers": 60},
            vae={"input_channels": 4},
            text_encoder=VLM_7B,
            scheduler={
                "use_dynamic_shifting": True,
                "shift_terminal": 0.02,
                "max_shift": 0.9,
                "max_image_seq_len": 8192,
            },
            image_processor={},
            profile=RELEASED,
            lora=(256, ATTENTION_TARGETS),
        )

    @classmethod
    def of_folders(cls, base: Path, adapter: Path | None, profile: Profile) -> "Architecture":
        """Read the configurations of a pipeline folder and, when given, of an adapter folder.

        Args:
            base: folder of the pipeline.
            adapter: folder of the adapter.
            profile: of both.

        Raises:
            CheckpointError: a file is missing or is not JSON.
        """
        vae = base / "vae"
        lora = None
        if adapter is not None:
            vae = adapter / "rgba_vae" if (adapter / "rgba_vae").is_dir() else vae
            lora = _adapter_shape(adapter / "lora" / WEIGHTS_NAME)
        processors = [base / folder / "preprocessor_config.json" for folder in ("image_processor", "processor")]
        found = next((file for file in processors if file.is_file()), None)
        return cls(
            name=base.name,
            transformer=_read(base / "transformer" / "config.json"),
            vae=_read(vae / "config.json") | {"input_channels": 4},
            text_encoder=_read(base / "text_encoder" / "config.json"),
            scheduler=_read(base / "scheduler" / "scheduler_config.json"),
            image_processor={} if found is None else _read(found),
            profile=profile,
            lora=lora,
        )

    @property
    def depth(self) -> int:
        """Blocks of the transformer."""
        return int(self.transformer["num_layers"])

    @property
    def vision_depth(self) -> int:
        """Blocks of the VLM's vision tower."""
        return int(self.text_encoder["vision_config"]["depth"])

    @property
    def text_depth(self) -> int:
        """Layers of the VLM's language model."""
        return int(self.text_encoder["text_config"]["num_hidden_layers"])

    def on_meta(self, dtype: torch.dtype, *, more: int) -> OmniAlphaPipeline:
        """The pipeline with weights that have shapes and no values, and with few blocks.

        Args:
            dtype: of the weights.
            more: blocks beyond `few` in transformer, vision tower and language model; two small models tell the large
                one.
        """
        vision_blocks = few(self.vision_depth) + more
        vision = {"depth": vision_blocks, "fullatt_block_indexes": list(range(vision_blocks))}
        language = {**self.text_encoder["text_config"], "num_hidden_layers": few(self.text_depth) + more}
        language.pop("layer_types", None)  # one for each layer; all are alike
        vlm = {"vision_config": {**self.text_encoder["vision_config"], **vision}, "text_config": language}
        config = Qwen2_5_VLConfig(**{**self.text_encoder, **vlm})
        blocks = {"num_layers": few(self.depth) + more}
        with init_empty_weights():
            transformer = QwenImageTransformer2DModel.from_config({**self.transformer, **blocks}).eval()
            vae = AutoencoderKLQwenImage.from_config(dict(self.vae)).eval()
            text_encoder = Qwen2_5_VLForConditionalGeneration(config).eval()
            for model in (transformer, vae, text_encoder):
                for parameter in model.parameters():
                    parameter.data = parameter.data.to(dtype)
            if self.lora is not None:
                add_lora(transformer, self.lora[0], targets=self.lora[1])
        pipeline = OmniAlphaPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler.from_config(dict(self.scheduler)),
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=_Tokens(config.image_token_id),
            transformer=transformer,
            image_processor=Qwen2VLImageProcessorPil(**self.image_processor) if self.image_processor else None,
            profile=self.profile,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def few(depth: int) -> int:
    """Blocks that a small model gets in the place of so many."""
    return min(FEW, depth)


class _Tokens:
    """Stands for a tokenizer whose files are not at hand: as many tokens as English text of that length has."""

    pad_token_id = 0

    def __init__(self, image_token: int) -> None:
        self._image_token = image_token

    def __call__(self, texts: str | Sequence[str]) -> dict[str, Any]:
        if isinstance(texts, str):
            return {"input_ids": self._ids(texts)}
        return {"input_ids": [self._ids(text) for text in texts]}

    def _ids(self, text: str) -> list[int]:
        ids = []
        for piece in re.split(r"(<\|\w+\|>)", text):
            if piece == "<|image_pad|>":
                ids.append(self._image_token)
            else:
                ids += [0] * (1 if piece.startswith("<|") else ceil(len(piece) / CHARACTERS_PER_TOKEN))
        return ids


def _adapter_shape(file: Path) -> tuple[int, tuple[str, ...]] | None:
    """Rank and target layers of an adapter file, from its header."""
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as tensors:
        names = [name for name in tensors.keys() if name.endswith("lora_A.weight")]  # noqa: SIM118  (not a dict)
        rank = max((tensors.get_slice(name).get_shape()[0] for name in names), default=0)
    targets = [t for t in ATTENTION_TARGETS + MLP_TARGETS if any(f".{t}.lora_A" in name for name in names)]
    return (rank, tuple(targets)) if targets else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); download or save the folder completely") from error
