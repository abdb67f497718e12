"""The embedded model's parts, untrained: a small transformer, a small VLM and its tokenizer, assembled as a pipeline.

The classes are those of the released weights (reference layout Qwen-Image-Edit-2509); only the sizes differ.
"""

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from omnialpha.models.profile import Profile
from omnialpha.models.transformer import with_layer_positions
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import TASKS
from omnialpha.training.dit_config import JointConfig

HEAD_DIM = 32
AXES_DIMS_ROPE = (4, 14, 14)  # channels of a head for layer, row, column
VOCABULARY = 4096
VISION_PATCH = 16  # merged 2 × 2: one vision token per 32 × 32 pixels
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def nano_profile(config: JointConfig) -> Profile:
    """How the embedded checkpoint is used: the paper's layer order, a short template, the area it was trained at.

    One step predicts the mean of all answers: the best guess where the pictures leave little open, which they do in the
    tasks without a text. docs/nano.md has the curve.
    """
    return Profile(
        name="nano",
        layer_order="paper",
        prompt_template="<|im_start|>{}<|im_end|>",
        picture_template="{}<|vision_start|><|image_pad|><|vision_end|>",
        vlm_area=config.vlm_area,
        grid=16,
        max_area=config.size**2,
        steps=2,
        task_steps={task.id: 1 for task in TASKS.values() if task.text is None},
        true_cfg_scale=1.0,
        clean_transparent=True,
    )


def train_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Train a byte-level BPE vocabulary with Qwen's way of splitting words."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    untrained = Qwen2Tokenizer(vocab=alphabet, merges=[])
    trained = untrained.train_new_from_iterator(
        texts, vocab_size=VOCABULARY - len(SPECIAL_TOKENS), new_special_tokens=list(SPECIAL_TOKENS)
    )
    trained.pad_token = SPECIAL_TOKENS[0]
    return trained


def build_text_encoder(config: JointConfig, tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL of a few million parameters with random weights."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    heads = config.vlm_dim // HEAD_DIM
    vlm = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": config.vlm_dim,
            "intermediate_size": 8 * config.vlm_dim // 3,
            "num_hidden_layers": config.vlm_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": config.vlm_dim,
            "patch_size": VISION_PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 4 * 2 * VISION_PATCH,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(vlm)


def build_transformer(config: JointConfig) -> QwenImageTransformer2DModel:
    """The transformer with random weights; gates and output start at zero, so every block starts as the identity."""
    transformer = QwenImageTransformer2DModel(
        num_layers=config.layers,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=config.heads,
        joint_attention_dim=config.vlm_dim,
        axes_dims_rope=AXES_DIMS_ROPE,
    )
    for block in transformer.transformer_blocks:
        for modulation in (block.img_mod, block.txt_mod):
            torch.nn.init.zeros_(modulation[-1].weight)
            torch.nn.init.zeros_(modulation[-1].bias)
    for layer in (transformer.norm_out.linear, transformer.proj_out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return with_layer_positions(transformer)


def build_pipeline(config: JointConfig, vae: AutoencoderKLQwenImage, tokenizer: Qwen2Tokenizer) -> OmniAlphaPipeline:
    """The untrained embedded pipeline around a trained VAE."""
    return OmniAlphaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=build_text_encoder(config, tokenizer),
        tokenizer=tokenizer,
        image_processor=Qwen2VLImageProcessorPil(
            patch_size=VISION_PATCH, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 1024 * 1024}
        ),
        transformer=build_transformer(config),
        profile=nano_profile(config),
    )
