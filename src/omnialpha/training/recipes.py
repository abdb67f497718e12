"""Recipes: functions that return every setting of a training run in one frozen record.

`paper_vae` and `paper_dit` are the two stages of the paper, `lora_single_gpu` a LoRA on one consumer GPU; `nano_vae`,
`nano_joint` makes the embedded checkpoint, `nano_finetune` goes on from it.
"""

import dataclasses
from collections.abc import Callable, Mapping

from omnialpha.training.config import override
from omnialpha.training.dit_config import DitConfig, JointConfig
from omnialpha.training.vae_config import VaeConfig

__all__ = ["DIT_RECIPES", "VAE_RECIPES", "JointConfig", "VaeConfig", "override"]


def nano_vae() -> VaeConfig:
    """The VAE of the embedded checkpoint: 64² crops, from scratch, two terms (two CPU cores, float32)."""
    return VaeConfig(
        rgb_vae="",
        base_dim=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=1,
        steps=2800,
        batch_size=16,
        micro_batch=16,
        crop=64,
        zooms=(1, 1.5, 2, 3),
        recolour=True,
        optimizer="muon",
        learning_rate=6e-4,
        schedule="cooldown",
        warmup=30,
        reconstruction_weight=1.0,
        perceptual_weight=0.0,
        reference_kl_weight=0.0,
        normal_kl_weight=1e-4,
        gan_weight=0.0,
        gan_start=0,
        discriminator_dim=64,
        perceptual="gradient_proxy",
        lpips_folder="",
        mixed_precision="no",
        workers=0,
        tracker="none",
        seed=0,
        save_every=200,
        log_every=20,
        validate_every=400,
        held_out=8,
    )


def paper_vae() -> VaeConfig:
    """Stage 1 of the paper (§3.2.1, §4.1, App. A.1); `rgb_vae` and `lpips_folder` have to be set.

    Steps, batch, rate, warm-up (5 %), schedule, optimiser and terms are the paper's; the step of the GAN and the crop
    are those of the authors' code. The paper prints no λ and the authors' file of them is not public: the weight of
    LPIPS is AlphaVAE's, the two KL weights are ours, small beside the reconstruction.
    """
    return VaeConfig(
        rgb_vae="",
        base_dim=96,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        steps=32_000,
        batch_size=16,
        micro_batch=1,
        crop=1024,
        zooms=(1,),
        recolour=False,
        optimizer="adamw",
        learning_rate=1.5e-5,
        schedule="cosine",
        warmup=1600,
        reconstruction_weight=1.0,
        perceptual_weight=0.5,
        reference_kl_weight=1e-4,
        normal_kl_weight=1e-6,
        gan_weight=1.0,
        gan_start=4000,
        discriminator_dim=64,
        perceptual="lpips_vgg",
        lpips_folder="",
        mixed_precision="bf16",
        workers=0,
        tracker="tensorboard",
        seed=0,
        save_every=500,
        log_every=20,
        validate_every=500,
        held_out=16,
    )


def paper_dit() -> DitConfig:
    """Stage 2 of the paper (§4.1): LoRA of rank 256 on attention and MLPs, batch 8, constant 5e-5, 100k steps.

    Rank, batch, rate, steps, optimiser, prompt dropout and uniform noise levels are the paper's or its authors'; the
    paper names neither a moving average nor a gradient norm: none is averaged, and the norm is that of common practice.
    """
    return DitConfig(
        lora_rank=256,
        train_text_encoder=False,
        quantize="no",
        steps=100_000,
        batch_size=8,
        batch_tokens=0,
        accumulate=1,
        size=1024,
        optimizer="adamw",
        learning_rate=5e-5,
        schedule="constant",
        warmup=0,
        clip=1.0,
        ema_decay=0.0,
        prompt_dropout=0.15,
        timesteps="uniform",
        sigma_shift=1.0,
        mixed_precision="bf16",
        checkpointing=True,
        compile=False,
        context_parallel=1,
        validate_every=1000,
        validate_samples=16,
        validate_steps=20,
        workers=0,
        tracker="tensorboard",
        seed=0,
        save_every=500,
        keep=3,
        log_every=20,
    )


def lora_single_gpu() -> DitConfig:
    """A LoRA on one GPU of 24 GB: base in four bits, rank 32, cached conditions; memory in `omnialpha doctor`.

    The cache keeps VAE and VLM away from the GPU; pictures are worked at 512².
    """
    return dataclasses.replace(
        paper_dit(),
        lora_rank=32,
        quantize="nf4",
        steps=4000,
        batch_size=4,
        accumulate=4,
        size=512,
        optimizer="adamw8bit",
        learning_rate=1e-4,
        warmup=100,
        ema_decay=0.99,
        validate_every=500,
        validate_samples=8,
        save_every=250,
        keep=2,
    )


def nano_joint() -> JointConfig:
    """Transformer and VLM of the embedded checkpoint at 64²: few tokens, many samples (two CPU cores, float32)."""
    return JointConfig(
        lora_rank=0,
        train_text_encoder=True,
        quantize="no",
        steps=2600,
        batch_size=128,
        batch_tokens=3072,
        accumulate=1,
        size=64,
        optimizer="muon",
        learning_rate=3e-3,
        schedule="cooldown",
        warmup=50,
        clip=1.0,
        ema_decay=0.99,
        prompt_dropout=0.1,
        timesteps="logit_normal",
        sigma_shift=1.5,
        mixed_precision="no",
        checkpointing=False,
        compile=False,
        context_parallel=1,
        validate_every=400,
        validate_samples=8,
        validate_steps=4,
        workers=0,
        tracker="none",
        seed=0,
        save_every=200,
        keep=2,
        log_every=20,
        vlm_area=64 * 64,
        layers=6,
        heads=6,
        vlm_dim=192,
        vlm_layers=3,
    )


def nano_finetune() -> JointConfig:
    """The same model for longer, from the weights of `nano_joint`, at noise levels near 1, where sampling begins."""
    return dataclasses.replace(
        nano_joint(), steps=3000, learning_rate=2e-3, timesteps="uniform", sigma_shift=5.0, validate_every=500, seed=1
    )


VAE_RECIPES: Mapping[str, Callable[[], VaeConfig]] = {recipe.__name__: recipe for recipe in (paper_vae, nano_vae)}
"""Recipes of `omnialpha train vae` by name."""

DIT_RECIPES: Mapping[str, Callable[[], DitConfig]] = {
    recipe.__name__: recipe for recipe in (paper_dit, lora_single_gpu, nano_joint, nano_finetune)
}
"""Recipes of `omnialpha train dit` by name."""
