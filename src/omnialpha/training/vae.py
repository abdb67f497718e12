"""Stage 1: train the RGBA VAE (§3.2.1, Eq. 2).

`train_vae` is the whole loop: draw crops → encode → sample → decode → terms of the loss → step → discriminator → log →
validate → checkpoint. The paper's stage (`recipes.paper_vae`) and the embedded VAE (`recipes.nano_vae`) are two
settings of it: opaque-initialised or from scratch, AdamW or Muon, and whichever terms have a weight.

With several processes (`accelerate launch`) each takes its share of the batch, and gradients are averaged.

Shape suffixes: B batch, C channels, H height, W width.
"""

import dataclasses
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, reduce
from diffusers import AutoencoderKLQwenImage
from torch import Tensor, nn
from torch.optim import Optimizer

from omnialpha.data.loader import batches
from omnialpha.errors import InputError, OmniAlphaError
from omnialpha.imaging.files import atomic_folder, atomic_write
from omnialpha.models.vae import decode_frame, encode_frame
from omnialpha.training import losses
from omnialpha.training.crops import Batch, Data, draw_batch, draw_crops, held_out_pictures
from omnialpha.training.discriminator import PatchDiscriminator
from omnialpha.training.progress import Progress
from omnialpha.training.state import load_state, save_state, warmup_and_cooldown, warmup_and_cosine
from omnialpha.training.vae_config import VaeConfig
from omnialpha.training.vae_models import VaeModels, adamw, build_models, make_optimizers
from omnialpha.training.vae_validation import validate

logger = logging.getLogger(__name__)

SCHEDULES = {"cosine": warmup_and_cosine, "cooldown": warmup_and_cooldown}
MAX_NORM = 1.0  # longer gradients are shortened
LATENT_STATISTICS_BATCHES = 16


def vae_terms(
    models: VaeModels, config: VaeConfig, batch: Batch, critic: PatchDiscriminator | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Reconstruct a batch, and compute the terms of Eq. 2 that have a weight.

    Args:
        models: from `build_models`.
        config: its weights decide which terms there are.
        batch: on the models' device.
        critic: the discriminator, once it counts.

    Returns:
        Scalars named as the weights of the config, and the reconstructions (B, 4, H, W), not clamped.
    """
    vae, x_B4HW = models.vae, batch.x_B4HW
    with autocast(config, x_B4HW):
        moments_BCHW = encode_frame(vae, x_B4HW).float()
        output_B4HW = decode_frame(vae, losses.sample_latents(moments_BCHW, batch.noise_BCHW)).float()
    terms: dict[str, Tensor] = {}
    if config.reconstruction_weight:
        terms["reconstruction"] = losses.reconstruction_loss(output_B4HW, x_B4HW, batch.colour_B3)
    if models.distance is not None:
        terms["perceptual"] = losses.perceptual_loss(models.distance, output_B4HW, x_B4HW)
    if models.reference is not None:
        opaque_B4HW = losses.opaque_composites(x_B4HW)
        with autocast(config, x_B4HW):
            reference_BCHW = encode_frame(models.reference, opaque_B4HW).float()
            learnt_BCHW = encode_frame(vae, opaque_B4HW).float()
        terms["reference_kl"] = losses.gaussian_kl(learnt_BCHW, reference_BCHW)
    if config.normal_kl_weight:
        terms["normal_kl"] = losses.gaussian_kl(moments_BCHW)
    if critic is not None:
        critic.requires_grad_(False)
        with autocast(config, x_B4HW):
            logits = critic(losses.premultiplied(output_B4HW)).float()
        generator = losses.generator_loss(logits)
        weight = losses.adaptive_weight(terms["reconstruction"], generator, vae.decoder.conv_out.weight)
        terms["gan"] = weight * generator
    return terms, output_B4HW


def train_vae(config: VaeConfig, data: Data, folder: Path, *, held_out: Data | None = None) -> AutoencoderKLQwenImage:
    """Train, or go on training, until `config.steps`; save the finished VAE to `folder / "vae"`.

    Args:
        config: every setting.
        data: what to train on.
        folder: holds checkpoints, `log.jsonl`, `config.json`, `validation/` and the result.
        held_out: where the pictures of validation come from; no validation without it.

    Returns:
        The trained VAE in evaluation mode. From scratch, its `latents_mean` and `latents_std` are measured; from an RGB
        VAE they stay that one's, which the transformer trained on its latents goes on using.

    Raises:
        InputError: settings that do not go together.
        CheckpointError: the RGB VAE or the weights of LPIPS are not there.
        OmniAlphaError: the loss is not a number any more.
    """
    process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # set by `accelerate launch --cpu`
    check_run(config, process)
    models = build_models(config, process.device)
    vae, discriminator = models.vae, models.discriminator
    optimizers = make_optimizers(vae, config)
    critic_optimizers = [] if discriminator is None else [adamw(discriminator.parameters(), config)]
    main = process.is_main_process
    pictures_B4HW = held_out_pictures(held_out, config) if held_out is not None and main else None
    first = resume(folder, config, models, [*optimizers, *critic_optimizers])
    folder.mkdir(parents=True, exist_ok=True)
    if main:
        with atomic_write(folder / "config.json", overwrite=True) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(config), indent=1))
    draw = partial(draw_batch, data, config, z_dim=vae.config.z_dim)
    with Progress(
        folder, name="vae", first=first, steps=config.steps, log_every=config.log_every, tracker=config.tracker
    ) as progress:
        for step, batch in enumerate(batches(draw, first, config.steps, workers=config.workers), start=first):
            rate = config.learning_rate * SCHEDULES[config.schedule](step, config.steps, config.warmup)
            critic = discriminator if step >= config.gan_start else None
            vae.zero_grad(set_to_none=True)
            values: dict[str, float] = defaultdict(float)
            reconstructed: list[tuple[Tensor, Tensor]] = []
            for part in batch.parts(process, config.micro_batch):
                terms, output_B4HW = vae_terms(models, config, part, critic)
                terms["loss"] = weighted_sum(terms, config)
                share = len(output_B4HW) * process.num_processes / config.batch_size
                (share * terms["loss"]).backward()
                reconstructed.append((part.x_B4HW, output_B4HW.detach()))
                for name, term in terms.items():
                    values[name] += share * term.item()
            descend(vae, optimizers, rate, process)
            if critic is not None:
                values["discriminator"] = judge(critic, config, reconstructed)
                descend(critic, critic_optimizers, rate, process)

            done = step + 1
            values = over_processes(values, process)
            if not math.isfinite(values["loss"]):
                raise OmniAlphaError(f"step {done}: the loss is {values['loss']}; lower learning_rate and start anew.")
            progress.step(done, config.batch_size, lr=rate, **values)
            last = done == config.steps
            if pictures_B4HW is not None and (last or done % config.validate_every == 0):
                vae.eval()
                scores, page = validate(vae, pictures_B4HW)
                vae.train()
                progress.scalars({f"validation/{name}": score for name, score in scores.items()}, done)
                progress.figure("validation", page, done)
            if main and (last or done % config.save_every == 0):
                save_state(folder, done, state_of(config, models, [*optimizers, *critic_optimizers]))

    vae.eval()
    if not config.rgb_vae:
        measure_latents(vae, data, config)
    if main:
        with atomic_folder(folder / "vae") as temporary:
            vae.save_pretrained(temporary)
    return vae


def state_of(config: VaeConfig, models: VaeModels, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Everything that a resumed run needs beside the step; what is frozen is made anew."""
    return {
        "config": dataclasses.asdict(config),
        "model": models.vae.state_dict(),
        "discriminator": {} if models.discriminator is None else models.discriminator.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }


def resume(folder: Path, config: VaeConfig, models: VaeModels, optimizers: Sequence[Optimizer]) -> int:
    """Take up the newest checkpoint; the number of steps done, 0 when there is none.

    Raises:
        InputError: the checkpoint is of other networks than the settings describe.
    """
    state = load_state(folder)
    if state is None:
        return 0
    settings = dataclasses.asdict(config)
    changed = [f"{name} {old!r} → {settings[name]!r}" for name, old in state["config"].items() if settings[name] != old]
    logger.info("resuming after step %d%s", state["step"], f"; changed: {', '.join(changed)}" if changed else "")
    own = state_of(config, models, optimizers)
    for name in ("model", "discriminator"):
        if {key: value.shape for key, value in own[name].items()} != {k: v.shape for k, v in state[name].items()}:
            raise InputError(f"{folder}: its checkpoint is of another {name}; choose another folder or its settings.")
    models.vae.load_state_dict(state["model"])
    if models.discriminator is not None:
        models.discriminator.load_state_dict(state["discriminator"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    step: int = state["step"]
    return step


def check_run(config: VaeConfig, process: PartialState) -> None:
    """Refuse what cannot start; single settings are checked by `VaeConfig` itself.

    Raises:
        InputError: with the remedy.
    """
    if config.reference_kl_weight and not config.rgb_vae:
        raise InputError(
            "the reference of reference_kl_weight is an RGB VAE: set rgb_vae to its folder, or reference_kl_weight=0."
        )
    if config.batch_size % process.num_processes:
        raise InputError(
            f"batch_size={config.batch_size} cannot be shared by {process.num_processes} processes; set a multiple."
        )


def weighted_sum(terms: dict[str, Tensor], config: VaeConfig) -> Tensor:
    """The loss of Eq. 2 from its terms; the adaptive weight is in the GAN's term already."""
    return torch.stack([getattr(config, f"{name}_weight") * term for name, term in terms.items()]).sum()


def judge(critic: PatchDiscriminator, config: VaeConfig, reconstructed: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Accumulate the discriminator's gradients over pairs of pictures and reconstructions; returns its loss."""
    critic.requires_grad_(True).zero_grad(set_to_none=True)
    total = sum(len(x_B4HW) for x_B4HW, _ in reconstructed)
    value = 0.0
    for pair in reconstructed:
        with autocast(config, pair[0]):
            real, fake = (critic(losses.premultiplied(picture_B4HW)).float() for picture_B4HW in pair)
        loss = losses.discriminator_loss(real, fake) * (len(pair[0]) / total)
        loss.backward()
        value += loss.item()
    return value


def descend(network: nn.Module, optimizers: Iterable[Optimizer], rate: float, process: PartialState) -> None:
    """Average the gradients over the processes, clip them, step."""
    parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
    if process.num_processes > 1:
        for parameter in parameters:
            parameter.grad = reduce(parameter.grad, reduction="mean")
    nn.utils.clip_grad_norm_(parameters, MAX_NORM)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def over_processes(values: dict[str, float], process: PartialState) -> dict[str, float]:
    """Means over the processes; all of them name the same values in the same order."""
    if process.num_processes == 1:
        return values
    means = reduce(torch.tensor(list(values.values()), device=process.device), reduction="mean")
    return dict(zip(values, means.tolist(), strict=True))


def autocast(config: VaeConfig, like: Tensor) -> torch.autocast:
    """bfloat16 where the recipe wants it."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16")


@torch.no_grad()
def measure_latents(vae: AutoencoderKLQwenImage, data: Data, config: VaeConfig) -> None:
    """Put the mean and standard deviation of each latent channel, over training crops, into the VAE's config."""
    means = [
        encode_frame(vae, draw_crops(data, config, config.steps + batch).to(vae.device)).chunk(2, dim=1)[0]
        for batch in range(LATENT_STATISTICS_BATCHES)
    ]
    z_CN = torch.cat(means).permute(1, 0, 2, 3).flatten(1)
    vae.register_to_config(latents_mean=z_CN.mean(1).tolist(), latents_std=z_CN.std(1).tolist())
