"""Stage 1: train the RGBA VAE (Eq. 2).

`train_vae` is the whole loop: draw crops → encode → sample → decode → loss → step → log → checkpoint. This first
version trains the embedded VAE from scratch with reconstruction over several backgrounds and the KL to N(0, I).

Shape suffixes: B batch, C channels, H height, W width.
"""

import dataclasses
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.models.vae import decode_frame, encode_frame, single_frame
from omnialpha.training.optim import Muon
from omnialpha.training.recipes import VaeConfig
from omnialpha.training.state import load_state, save_state, warmup_and_cooldown

logger = logging.getLogger(__name__)

Z_DIM = 16
SQUARE_WEIGHT = 2.0  # of the squared difference beside the absolute one: grey must not pass for a colour
FIRST_LOGVAR = -6.0
LATENT_STATISTICS_BATCHES = 16


def build_vae(config: VaeConfig) -> AutoencoderKLQwenImage:
    """A VAE of the released class with random weights and no temporal layers (pictures have one frame)."""
    vae = AutoencoderKLQwenImage(
        input_channels=4,
        base_dim=config.base_dim,
        z_dim=Z_DIM,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=[False] * (len(config.dim_mult) - 1),
        latents_mean=[0.0] * Z_DIM,
        latents_std=[1.0] * Z_DIM,
    )
    for name, module in vae.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
            initialise(module, branch_end=name.endswith((".conv2", ".proj")))
    # Start with little noise on the latents: at variance 1 all but the strongest signal drowns, and colour, which is
    # weaker than brightness, is never learnt.
    torch.nn.init.constant_(vae.quant_conv.bias[Z_DIM:], FIRST_LOGVAR)
    return single_frame(vae)


@torch.no_grad()
def initialise(conv: torch.nn.Conv2d | torch.nn.Conv3d, *, branch_end: bool) -> None:
    """Let a convolution keep the size of its input, and a residual branch start at zero.

    The default spreads weights over three temporal taps, of which one frame uses the last: signals shrink from layer
    to layer until the biases drown them, and colour is never learnt.
    """
    weight = conv.weight if conv.weight.ndim == 4 else conv.weight[:, :, -1]
    conv.weight.zero_()
    if not branch_end:
        weight.normal_(std=weight[0].numel() ** -0.5)
    if conv.bias is not None:
        conv.bias.zero_()


def reconstruction_loss(output_B4HW: Tensor, target_B4HW: Tensor) -> Tensor:
    """Alpha-aware L1 and L2: over black, over white, over one random colour per picture, and of alpha itself.

    What lies under alpha 0 does not count: it is seen over no background.

    Args:
        output_B4HW: straight RGBA in [-1, 1], not clamped.
        target_B4HW: the same, in [-1, 1].
    """
    output, target = output_B4HW / 2 + 0.5, target_B4HW / 2 + 0.5
    alpha, true_alpha = output[:, 3:], target[:, 3:]
    premultiplied, true_premultiplied = output[:, :3] * alpha, target[:, :3] * true_alpha
    loss = F.l1_loss(alpha, true_alpha)
    random_colour = torch.rand(len(output), 3, 1, 1)
    for background in (torch.zeros(1), torch.ones(1), random_colour):
        # F·α + B(1 − α), for both pictures: the difference is taken of the composites.
        difference = (premultiplied - true_premultiplied) - background * (alpha - true_alpha)
        loss = loss + (difference.abs() + SQUARE_WEIGHT * difference.square()).mean()
    return loss / 4


def draw_crops(corpus: Corpus, config: VaeConfig, step: int) -> Tensor:
    """The batch of one step: crops of cut-outs, composites, backgrounds and masks, (B, 4, crop, crop) in [-1, 1]."""
    rng = np.random.default_rng([config.seed, step])
    crops: list[np.ndarray] = []
    while len(crops) < config.batch_size:
        size = int(config.crop * rng.choice([1, 1.5, 2, 3]))
        scene = draw_scene(corpus, rng, size)
        assert scene.background is not None  # drawn scenes have one
        mask = scene.foregrounds[0][..., [3, 3, 3, 3]].copy()
        mask[..., 3] = 1
        pictures = [scene.foregrounds[0], scene.composite, scene.foregrounds[0], mask, scene.background]
        for picture in pictures[: 5 if rng.random() < 0.25 else 3]:
            top, left = rng.integers(0, size - config.crop + 1, 2)
            crop = picture[top : top + config.crop, left : left + config.crop]
            crops.append(recolour(crop, rng))
    batch_BHW4 = np.stack(crops[: config.batch_size])
    return torch.from_numpy(batch_BHW4).permute(0, 3, 1, 2).mul(2).sub(1)


def recolour(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute the colour channels of a crop and, every other time, invert some of them.

    The channels of photographs are so alike that a network first learns grey pictures and stays there for long:
    inverting channels by chance makes colour as strong a signal as brightness.
    """
    crop = crop[..., [*rng.permutation(3), 3]]
    if rng.random() < 0.5:
        inverted = np.where(rng.random(3) < 0.5, 1 - crop[..., :3], crop[..., :3])
        crop[..., :3] = inverted * (crop[..., 3:] > 0)
    return crop


def train_vae(config: VaeConfig, corpus: Corpus, folder: Path) -> AutoencoderKLQwenImage:
    """Train, or go on training, until `config.steps`; save the finished VAE to `folder / "vae"`.

    Args:
        config: every setting.
        corpus: training split.
        folder: holds checkpoints, `log.jsonl`, `config.json` and the result.

    Returns:
        The trained VAE in evaluation mode, with `latents_mean` and `latents_std` measured.
    """
    torch.manual_seed(config.seed)
    vae = build_vae(config).train()
    optimizers = make_optimizers(vae, config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
    first = 0
    if (state := load_state(folder)) is not None:
        vae.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
        logger.info("resuming after step %d", first)

    start = time.monotonic()
    for step in range(first, config.steps):
        torch.manual_seed(config.seed * 1_000_003 + step)
        x_B4HW = draw_crops(corpus, config, step)
        mean, logvar = encode_frame(vae, x_B4HW).chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        reconstruction = reconstruction_loss(decode_frame(vae, z), x_B4HW)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction + config.kl_weight * kl

        rate = config.learning_rate * warmup_and_cooldown(step, config.steps, config.warmup)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()

        done = step + 1
        if done % config.log_every == 0:
            rate = (done - first) * config.batch_size / (time.monotonic() - start)
            record = {"step": done, "reconstruction": reconstruction.item(), "kl": kl.item(), "samples_per_s": rate}
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            logger.info("%s", record)
        if done % config.save_every == 0 or done == config.steps:
            state = {"model": vae.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
            save_state(folder, done, state)

    vae = measure_latents(vae.eval(), corpus, config)
    vae.save_pretrained(folder / "vae")
    return vae


def make_optimizers(vae: AutoencoderKLQwenImage, config: VaeConfig) -> list[torch.optim.Optimizer]:
    """Muon for the inner convolutions, AdamW for the two ends, norms and biases."""
    inner: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in vae.named_parameters():
        end = any(part in name for part in ("conv_in.", "conv_out.", "quant_conv.", "norm"))
        (rest if end or parameter.ndim < 3 else inner).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return [Muon(inner, lr=config.learning_rate), adamw]


@torch.no_grad()
def measure_latents(vae: AutoencoderKLQwenImage, corpus: Corpus, config: VaeConfig) -> AutoencoderKLQwenImage:
    """Put the mean and standard deviation of each latent channel, over training crops, into the VAE's config."""
    means = [
        encode_frame(vae, draw_crops(corpus, config, config.steps + batch)).chunk(2, dim=1)[0]
        for batch in range(LATENT_STATISTICS_BATCHES)
    ]
    z_CN = torch.cat(means).permute(1, 0, 2, 3).flatten(1)
    vae.register_to_config(latents_mean=z_CN.mean(1).tolist(), latents_std=z_CN.std(1).tolist())
    return vae
