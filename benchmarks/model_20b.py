"""The full 20B architecture with random weights, made where they are wanted; and the same in tiny, for trials.

Everything is built on the meta device and filled tensor by tensor, so that no second copy ever exists. The stock
pipeline and ours share one set of weights. Their tokenizer is the embedded checkpoint's, the only one that is at hand
without a download: its prompts are a few tokens longer than Qwen's.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from PIL import Image
from rival import Rival, StockProcessor
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLImageProcessorPil

import omnialpha
from omnialpha.memory.architecture import VLM_7B
from omnialpha.models.profile import PAPER
from omnialpha.pipeline import OmniAlphaPipeline

SCHEDULER = {
    "use_dynamic_shifting": True,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
}

Module = TypeVar("Module", bound=nn.Module)

TOKENIZER = Path(omnialpha.__file__).parent / "assets" / "nano" / "tokenizer"
# The released order of targets is the order of the stock pipeline's, so that one noise gives both the same layers.
PROFILE = replace(PAPER, name="random", layer_order="released")


@dataclass(frozen=True)
class Scale:
    """An architecture and the size of its work.

    Attributes:
        transformer: arguments of the transformer; the full ones are its defaults.
        vlm: configuration of the VLM.
        vae: arguments of the VAE.
        side: of the pictures, pixels.
        steps: sampling steps of a whole call.
        few_steps: of a call that is only measured per step.
    """

    transformer: Mapping[str, Any]
    vlm: Mapping[str, Any]
    vae: Mapping[str, Any]
    side: int
    steps: int
    few_steps: int


FULL = Scale(transformer={"num_layers": 60}, vlm=VLM_7B, vae={}, side=1024, steps=50, few_steps=10)
TINY = Scale(
    transformer={
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    vlm={
        "text_config": {
            "vocab_size": 4096,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
    },
    vae={"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
    side=256,
    steps=4,
    few_steps=2,
)
SCALES = {"20B": FULL, "tiny": TINY}


@dataclass(frozen=True)
class Components:
    """The parts of a pipeline; the transformer and the VAE are stock."""

    transformer: QwenImageTransformer2DModel
    vae: AutoencoderKLQwenImage
    text_encoder: Qwen2_5_VLForConditionalGeneration
    tokenizer: Qwen2Tokenizer
    image_processor: Qwen2VLImageProcessorPil


def meta_components(scale: Scale) -> Components:
    """All parts without weights."""
    tokenizer = Qwen2Tokenizer.from_pretrained(TOKENIZER)
    roles = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids = {role: tokenizer.convert_tokens_to_ids(token) for role, token in roles.items()}
    with init_empty_weights():
        return Components(
            transformer=QwenImageTransformer2DModel(**scale.transformer).eval(),
            vae=AutoencoderKLQwenImage(input_channels=4, **scale.vae).eval(),
            text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**scale.vlm, **ids)).eval(),
            tokenizer=tokenizer,
            image_processor=Qwen2VLImageProcessorPil(),
        )


def fill(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Give a module of the meta device random weights under which signals keep their size, in place.

    Matrices and kernels are normal with the variance of one over their inputs, biases 0, the scales of norms 1.
    """
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in list(module.named_parameters()):
        value = torch.empty(weight.shape, dtype=dtype, device=device)
        if name.endswith("bias"):
            value.zero_()
        elif weight.ndim == 1 or name.endswith("gamma"):
            value.fill_(1)
        else:
            value.normal_(std=weight[0].numel() ** -0.5, generator=generator)
        set_module_tensor_to_device(module, name, device, value=value, dtype=dtype)
    module.to(device)  # buffers, which were real from the beginning


def components(scale: Scale, device: torch.device, dtype: torch.dtype) -> Components:
    """All parts with random weights."""
    parts = meta_components(scale)
    for module in (parts.transformer, parts.vae, parts.text_encoder):
        fill(module, device, dtype)
    return parts


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """That of Qwen-Image-Edit-2509."""
    return FlowMatchEulerDiscreteScheduler(**SCHEDULER)


def stock_pipeline(parts: Components) -> Rival:
    """The stock pipeline around these very parts."""
    processor = StockProcessor(parts.image_processor, parts.tokenizer)
    pipe = QwenImageEditPlusPipeline(
        scheduler(), parts.vae, parts.text_encoder, parts.tokenizer, processor, parts.transformer
    )
    return Rival(pipe, PROFILE)


def our_pipeline(parts: Components) -> OmniAlphaPipeline:
    """Our pipeline around copies of the parts that share their weights, so that nothing done to it reaches them."""
    pipe = OmniAlphaPipeline(
        scheduler=scheduler(),
        vae=_sharing(parts.vae),
        text_encoder=_sharing(parts.text_encoder),
        tokenizer=parts.tokenizer,
        transformer=_sharing(parts.transformer),
        image_processor=parts.image_processor,
        profile=PROFILE,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _sharing(module: Module) -> Module:
    """A copy whose parameters lie in the same memory."""
    shared: dict[int, Any] = {
        id(weight): nn.Parameter(weight.data, requires_grad=False) for weight in module.parameters()
    }
    return copy.deepcopy(module, shared)


def picture(side: int) -> Image.Image:
    """A smooth opaque picture."""
    grey = Image.linear_gradient("L").resize((side, side))
    return Image.merge("RGBA", (grey, grey.rotate(90), grey.rotate(180), Image.new("L", grey.size, 255)))


def noise(scale: Scale, num_targets: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Packed noise of each target, (m, S, 64)."""
    tokens = (scale.side // 16) ** 2
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_targets, tokens, 64, generator=generator).to(device, dtype)
