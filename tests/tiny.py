"""Tiny random models with the real classes and the real folder layouts: what the tests run on.

Weights are seeded, so two calls give the same model. A whole pipeline takes a few hundred kilobytes and milliseconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLImageProcessorPil

from omnialpha.models.lora import ATTENTION_TARGETS, add_lora, save_lora
from omnialpha.models.profile import Profile
from omnialpha.pipeline import OmniAlphaPipeline

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
HIDDEN = 32

PROFILE = Profile(
    name="tiny",
    prompt_template="<|im_start|>user\n{}<|im_end|>\n",
    grid=16,
    max_area=64 * 64,
    steps=2,
    true_cfg_scale=1.0,
    clean_transparent=True,
)


def tokenizer() -> Qwen2Tokenizer:
    """One token per byte: no merges are needed to test what is built on top."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's names for bytes
    names = {byte: chr(byte) for byte in printable}
    names |= {byte: chr(256 + k) for k, byte in enumerate(b for b in range(256) if b not in printable)}
    vocabulary = {names[byte]: byte for byte in range(256)}
    vocabulary |= {token: 256 + k for k, token in enumerate(SPECIAL_TOKENS)}
    return Qwen2Tokenizer(
        vocab=vocabulary, merges=[], eos_token="<|im_end|>", additional_special_tokens=list(SPECIAL_TOKENS)
    )


def text_encoder(seed: int = 0, *, patch_size: int = 16) -> Qwen2_5_VLForConditionalGeneration:
    ids = {token: 256 + k for k, token in enumerate(SPECIAL_TOKENS)}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 256 + len(SPECIAL_TOKENS),
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        },
        vision_config={
            "depth": 2,
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "patch_size": patch_size,
            "window_size": 4 * patch_size,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def rgb_vae(seed: int = 0) -> AutoencoderKLQwenImage:
    torch.manual_seed(seed)
    return AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def rgba_vae(seed: int = 0) -> AutoencoderKLQwenImage:
    """Random in all channels: a freshly initialised one would ignore alpha."""
    torch.manual_seed(seed)
    return AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, input_channels=4).eval()


def transformer(seed: int = 0) -> QwenImageTransformer2DModel:
    torch.manual_seed(seed)
    return QwenImageTransformer2DModel(
        num_layers=2, num_attention_heads=2, attention_head_dim=16, joint_attention_dim=HIDDEN, axes_dims_rope=(4, 6, 6)
    ).eval()


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The settings of Qwen-Image-Edit-2509."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        base_shift=0.5,
        max_shift=0.9,
        shift_terminal=0.02,
    )


def pipeline(profile: Profile = PROFILE, seed: int = 0) -> OmniAlphaPipeline:
    pipe = OmniAlphaPipeline(
        scheduler=scheduler(),
        vae=rgba_vae(seed),
        text_encoder=text_encoder(seed),
        tokenizer=tokenizer(),
        transformer=transformer(seed),
        image_processor=Qwen2VLImageProcessorPil(patch_size=16),
        profile=profile,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_base(folder: Path) -> Path:
    """A folder in the layout of Qwen/Qwen-Image-Edit-2509: RGB VAE, a ``processor``, another pipeline class."""
    parts: dict[str, Any] = {
        "scheduler": ("diffusers", scheduler()),
        "text_encoder": ("transformers", text_encoder(patch_size=14)),
        "tokenizer": ("transformers", tokenizer()),
        "transformer": ("diffusers", transformer()),
        "vae": ("diffusers", rgb_vae()),
    }
    for name, (_, part) in parts.items():
        part.save_pretrained(folder / name)
    tokenizer().save_pretrained(folder / "processor")
    Qwen2VLImageProcessorPil().save_pretrained(folder / "processor")
    index: dict[str, Any] = {name: [library, type(part).__name__] for name, (library, part) in parts.items()}
    index |= {"_class_name": "QwenImageEditPlusPipeline", "processor": ["transformers", "Qwen2VLProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_adapter(folder: Path, *, lora: bool = True) -> Path:
    """A folder in the layout of Longin-Yu/OmniAlpha."""
    vae_folder = folder / "rgba_vae"
    rgba_vae(seed=1).save_pretrained(vae_folder)
    config = json.loads((vae_folder / "config.json").read_text())
    channels = config.pop("input_channels")
    config |= {"_class_name": "AutoencoderKLQwenImageAlpha", "in_channels": channels, "out_channels": channels}
    (vae_folder / "config.json").write_text(json.dumps(config))
    if lora:
        save_lora(with_lora(transformer()), folder / "lora")
    return folder


def with_lora(model: QwenImageTransformer2DModel, rank: int = 2, seed: int = 0) -> QwenImageTransformer2DModel:
    """Attach an attention adapter that does something: a fresh one is zero."""
    add_lora(model, rank, targets=ATTENTION_TARGETS)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter.data, std=0.2)
    return model


def picture(seed: int = 0, size: tuple[int, int] = (48, 32), *, opaque: bool = True) -> Image.Image:
    """Random smooth RGBA picture of (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    if opaque:
        image.putalpha(255)
    return image


def mask(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """White rectangle on black, mode "L"."""
    image = Image.new("L", size)
    image.paste(255, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    return image
