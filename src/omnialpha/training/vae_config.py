"""Every setting of a stage-1 run in one frozen record, checked when it is made; recipes fill it."""

from collections.abc import Mapping
from dataclasses import dataclass

from omnialpha.errors import InputError
from omnialpha.training.config import check_choices, check_counts

COMPRESSION = 8  # pixels to a latent, each way
SMALLEST_PATCH = 24  # pixels that the discriminator needs at least
SMALLEST_LPIPS = 32  # and LPIPS

CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "muon"),
    "schedule": ("cosine", "cooldown"),
    "perceptual": ("lpips_vgg", "lpips_alex", "gradient_proxy"),
    "mixed_precision": ("no", "bf16"),
    "tracker": ("tensorboard", "wandb", "none"),
}
"""What the settings that are words may say."""

WEIGHTS = ("reconstruction_weight", "perceptual_weight", "reference_kl_weight", "normal_kl_weight", "gan_weight")
COUNTS = (
    "steps",
    "batch_size",
    "micro_batch",
    "crop",
    "warmup",
    "save_every",
    "log_every",
    "validate_every",
    "held_out",
)


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Stage 1, the RGBA VAE: opaque initialisation from an RGB VAE, or from scratch.

    A term of the loss whose weight is 0 is not computed. Weights multiply means over elements (`losses`).

    Attributes:
        rgb_vae: folder of the RGB VAE that it starts as (Eq. 4); "" trains from scratch.
        base_dim: channels at full resolution, from scratch only (as the next two).
        dim_mult: channel multiples at each resolution.
        num_res_blocks: residual blocks at each resolution.
        steps: optimiser steps.
        batch_size: crops per step, over all processes.
        micro_batch: crops at once in one process; gradients of the others are added up.
        crop: side of a crop, pixels.
        zooms: a scene is drawn at one of these multiples of the crop, and a window of it taken.
        recolour: permute and invert colour channels by chance (`crops.recolour`).
        optimizer: "adamw" (0.9, 0.999), or "muon" with AdamW for ends, norms and biases.
        learning_rate: peak.
        schedule: "cosine" or "cooldown", both after a linear warm-up; see `state`.
        warmup: steps of warm-up.
        reconstruction_weight: λ_rec.
        perceptual_weight: λ_perc.
        reference_kl_weight: λ_kl of Eq. 2, KL to the frozen encoder of the RGB VAE.
        normal_kl_weight: λ_ref of Eq. 2, KL to N(0, I).
        gan_weight: λ_GAN, times the adaptive weight.
        gan_start: step from which the discriminator learns and counts.
        discriminator_dim: its channels after the first convolution.
        perceptual: "lpips_vgg", "lpips_alex", or the stand-in "gradient_proxy", which needs no weights.
        lpips_folder: holds the files of LPIPS (`losses.LPIPS_FILES`).
        mixed_precision: "bf16", or "no" for float32.
        workers: processes that draw batches; 0: threads, where training itself takes all cores.
        tracker: "tensorboard", "wandb" or "none"; `log.jsonl` is always written.
        seed: of everything.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
        validate_every: steps between validations on held-out pictures.
        held_out: their number.
    """

    rgb_vae: str
    base_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    steps: int
    batch_size: int
    micro_batch: int
    crop: int
    zooms: tuple[float, ...]
    recolour: bool
    optimizer: str
    learning_rate: float
    schedule: str
    warmup: int
    reconstruction_weight: float
    perceptual_weight: float
    reference_kl_weight: float
    normal_kl_weight: float
    gan_weight: float
    gan_start: int
    discriminator_dim: int
    perceptual: str
    lpips_folder: str
    mixed_precision: str
    workers: int
    tracker: str
    seed: int
    save_every: int
    log_every: int
    validate_every: int
    held_out: int

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        check_counts(self, COUNTS)
        check_counts(self, ("workers",), least=0)
        for name in WEIGHTS:
            if (value := getattr(self, name)) < 0:
                raise InputError(f"setting {name}: expected 0 (off) or more, received {value}.")
        if self.crop % COMPRESSION:
            raise InputError(f"setting crop: expected a multiple of {COMPRESSION}, received {self.crop}.")
        if min(self.zooms) < 1:
            raise InputError(f"setting zooms: expected numbers of 1 or more, received {min(self.zooms)}.")
        if not any(getattr(self, name) for name in WEIGHTS[:-1]):
            raise InputError("all terms of the loss are switched off; give one a weight, e.g. reconstruction_weight=1.")
        if self.gan_weight and not self.reconstruction_weight:
            raise InputError(
                "the GAN is weighed against the reconstruction; set reconstruction_weight, or gan_weight=0."
            )
        if self.gan_weight and self.crop < SMALLEST_PATCH:
            raise InputError(f"the discriminator needs crops of {SMALLEST_PATCH} pixels; set crop, or gan_weight=0.")
        if self.perceptual_weight and self.perceptual != "gradient_proxy" and self.crop < SMALLEST_LPIPS:
            raise InputError(f"LPIPS needs crops of {SMALLEST_LPIPS} pixels; set crop, or perceptual=gradient_proxy.")
