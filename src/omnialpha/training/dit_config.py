"""Every setting of a stage-2 run in one frozen record, checked when it is made; recipes fill it."""

from collections.abc import Mapping
from dataclasses import dataclass

from omnialpha.errors import InputError
from omnialpha.training.config import check_choices, check_counts

CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "adamw8bit", "muon"),
    "schedule": ("constant", "cooldown"),
    "timesteps": ("uniform", "logit_normal"),
    "mixed_precision": ("no", "bf16"),
    "quantize": ("no", "nf4"),
    "tracker": ("tensorboard", "wandb", "none"),
}
"""What the settings that are words may say."""

COUNTS = ("steps", "batch_size", "accumulate", "size", "context_parallel", "save_every", "keep", "log_every")


@dataclass(frozen=True, kw_only=True)
class DitConfig:
    """Stage 2: the transformer on all tasks at once (Eq. 3), from trained weights.

    Attributes:
        lora_rank: rank of the adapter (alpha = rank); 0 trains all parameters instead.
        train_text_encoder: train the VLM too; only without an adapter.
        quantize: "nf4" holds the frozen base in four bits (needs the extra "train" and a GPU), "no" as it is.
        steps: optimiser steps.
        batch_size: samples per step over all processes, all of one layer structure and size.
        batch_tokens: fewer samples where they would have more tokens than this; 0: no limit.
        accumulate: parts that each process computes one after the other, to save memory.
        size: pictures are worked at about size² pixels, in their own shape.
        optimizer: "adamw" (0.9, 0.999), "adamw8bit" (states in 8 bits, extra "train"), or "muon" for hidden matrices.
        learning_rate: peak.
        schedule: "constant", or "cooldown" (`state.warmup_and_cooldown`); both after the warm-up.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
        ema_decay: decay of the weights' moving average, reached gradually; 0 keeps no average.
        prompt_dropout: chance that the instruction is replaced by "".
        timesteps: noise levels σ are "uniform", or "logit_normal": the sigmoid of a normal number.
        sigma_shift: then shifted by s: σ' = sσ / (1 + (s − 1)σ); 1 changes nothing.
        mixed_precision: "bf16", or "no" for float32.
        checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: compile the repeated blocks with torch.compile.
        context_parallel: processes that share the tokens of one sample; 1 turns it off.
        validate_every: steps between validations; 0 for none.
        validate_samples: held-out samples per validation.
        validate_steps: sampling steps of a validation.
        workers: processes that draw batches; 0: threads, where training itself takes all cores.
        tracker: "tensorboard", "wandb" or "none"; `log.jsonl` is always written.
        seed: of everything.
        save_every: steps between checkpoints.
        keep: checkpoints kept, the newest ones.
        log_every: steps between log lines.
    """

    lora_rank: int
    train_text_encoder: bool
    quantize: str
    steps: int
    batch_size: int
    batch_tokens: int
    accumulate: int
    size: int
    optimizer: str
    learning_rate: float
    schedule: str
    warmup: int
    clip: float
    ema_decay: float
    prompt_dropout: float
    timesteps: str
    sigma_shift: float
    mixed_precision: str
    checkpointing: bool
    compile: bool
    context_parallel: int
    validate_every: int
    validate_samples: int
    validate_steps: int
    workers: int
    tracker: str
    seed: int
    save_every: int
    keep: int
    log_every: int

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        check_counts(self, COUNTS)
        check_counts(self, ("workers",), least=0)
        if self.lora_rank and self.train_text_encoder:
            raise InputError("an adapter cannot hold a trained VLM; set lora_rank=0 or train_text_encoder=false.")
        if self.quantize != "no" and not self.lora_rank:
            raise InputError("a quantised base cannot be trained itself; set lora_rank, or quantize=no.")
        if self.lora_rank and self.optimizer == "muon":
            raise InputError("muon is for whole matrices, not for an adapter's factors; set optimizer=adamw.")


@dataclass(frozen=True, kw_only=True)
class JointConfig(DitConfig):
    """Stage 2 from scratch: transformer and VLM together, of the sizes given here.

    Attributes:
        vlm_area: pixels that the VLM sees of a picture.
        layers: transformer blocks.
        heads: attention heads of 32 dimensions.
        vlm_dim: hidden size of the VLM.
        vlm_layers: its decoder layers.
    """

    vlm_area: int
    layers: int
    heads: int
    vlm_dim: int
    vlm_layers: int
