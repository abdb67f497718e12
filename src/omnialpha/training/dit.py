"""Stage 2: train the transformer on all tasks at once (Table 1, Eq. 3).

`train_dit` is the whole loop: draw a batch of one layer structure → latents and embeddings (frozen VAE and VLM, or a
cache) → noise the targets → predict the velocity → step → average → validate → checkpoint. What is trained is a
setting: an adapter, the transformer, or transformer and VLM together, which is how the embedded checkpoint is made.

One batch is the same batch on any number of processes: every sample has its own random numbers, seeded by
(seed, step, its place in the batch), and is weighted alike.

Shape suffixes: B batch, L layers, C channels, H height, W width, S tokens.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from torch import Tensor, nn

from omnialpha.data.loader import batches, draw_batch
from omnialpha.errors import InputError
from omnialpha.models.latents import PATCH, pack
from omnialpha.models.profile import Profile
from omnialpha.models.transformer import layer_shapes, velocity
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.data import Data
from omnialpha.training.dit_config import DitConfig
from omnialpha.training.encoding import Encoded, encode
from omnialpha.training.optim import Average, make_optimizers
from omnialpha.training.prepare import Engine, make_engine, make_trainable, share_tokens
from omnialpha.training.progress import Progress
from omnialpha.training.result import write_config, write_result
from omnialpha.training.state import resume, save_state, snapshot, warmup_and_cooldown
from omnialpha.training.validation import Validation

Encoder = Callable[[Sequence[Any], Sequence[bool]], Encoded]
"""Rows of a batch, and which of them lose their prompt, to what the transformer reads."""


def train_dit(
    config: DitConfig,
    pipeline: OmniAlphaPipeline,
    data: Data,
    folder: Path,
    *,
    origin: Mapping[str, str],
) -> OmniAlphaPipeline:
    """Train, or go on training, until `config.steps`.

    Args:
        config: every setting.
        pipeline: what training starts from, on the CPU; changed in place.
        data: what batches are drawn from, and held-out examples. With a cache, VAE and VLM stay off the device.
        folder: holds checkpoints, `config.json`, `log.jsonl`, validation pictures and the result: `adapter/` for a
            LoRA, else `pipeline/`.
        origin: "base" and "data" of the run, for the model card.

    Returns:
        The pipeline with the trained (averaged) weights, in evaluation mode.
    """
    # 1. Build.
    torch.manual_seed(config.seed)  # the adapter's first weights
    engine = make_engine(config)
    if data.cache is not None:
        data.cache.check(pipeline)
    make_trainable(pipeline, config)
    validates = bool(data.held_out and config.validate_every)
    validation = Validation(pipeline, data.held_out, config, engine.accelerator) if validates else None
    for part in (pipeline.vae, pipeline.text_encoder) if data.cache is None else ():
        part.to(engine.accelerator.device)
    encoder: Encoder = partial(encode, pipeline) if data.cache is None else data.cache.collate
    denoiser = Denoiser(pipeline, encoder, config).train()
    model, *optimizers = engine.accelerator.prepare(denoiser, *make_optimizers(trained(denoiser), config))
    share_tokens(pipeline.transformer, engine)
    parameters = trained(denoiser)
    average = Average(parameters, config.ema_decay)
    first = resume(folder, config, parameters, average, optimizers)
    main = engine.accelerator.is_main_process
    if main:
        write_config(config, folder)

    # 2. Train.

    def draw(step: int) -> list[Any]:
        """This process's part of a batch."""
        return draw_batch(
            data.groups,
            seed=config.seed,
            step=step,
            batch_size=config.batch_size,
            batch_tokens=config.batch_tokens or None,
            rank=engine.rank,
            world=engine.world,
        )

    with Progress(
        folder, name="dit", first=first, steps=config.steps, log_every=config.log_every, tracker=config.tracker
    ) as progress:
        for step, rows in enumerate(batches(draw, first, config.steps, workers=config.workers), start=first):
            torch.manual_seed(config.seed * 1_000_003 + step)  # for whatever draws without a generator
            rate = learning_rate(config, step)
            losses = _backward(model, rows, step, config, engine)
            norm = engine.accelerator.clip_grad_norm_(parameters.values(), config.clip)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            average.update(step)

            # 3. Show, validate, save.
            done = step + 1
            losses = gather_object(losses)
            progress.step(done, len(losses) // engine.tokens, lr=rate, norm=float(norm), **by_task(losses))
            if validation is not None and done % config.validate_every == 0:
                with average.swapped():
                    scores, page = validation.run()
                progress.scalars({f"validation/{name}": value for name, value in scores.items()}, done)
                progress.figure("validation", page, done)
            if done % config.save_every == 0 or done == config.steps:
                state = snapshot(config, parameters, average, optimizers)
                if main:
                    save_state(folder, done, state, keep=config.keep)

    # 4. Result.
    average.settle()
    pipeline.transformer.eval()
    pipeline.text_encoder.eval()
    write_result(pipeline, config, folder, origin, engine.accelerator)
    engine.accelerator.wait_for_everyone()
    return pipeline


class Denoiser(nn.Module):
    """The losses of a batch behind one forward: what distributed engines wrap.

    Args:
        pipeline: its transformer, and the VLM where it is trained, are this module's; the frozen parts are not.
        encoder: rows to latents and embeddings.
        config: the settings.
    """

    def __init__(self, pipeline: OmniAlphaPipeline, encoder: Encoder, config: DitConfig) -> None:
        super().__init__()
        self.transformer = pipeline.transformer
        if config.train_text_encoder:
            self.text_encoder = pipeline.text_encoder
        self._encoder, self._config, self._profile = encoder, config, pipeline.profile

    def forward(self, rows: Sequence[Any], seeds: Sequence[int]) -> tuple[Tensor, tuple[str, ...]]:
        """The loss of each row (B,) and its task; `seeds` are those of the rows' random numbers."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        dropped = [bool(torch.rand((), generator=g) < self._config.prompt_dropout) for g in generators]
        encoded = self._encoder(rows, dropped).to(self.transformer.device, self._dtype)
        encoded = divisible(encoded, self._config.context_parallel)
        return flow_matching_losses(self.transformer, encoded, generators, self._config, self._profile), encoded.tasks

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self._config.mixed_precision == "bf16" else torch.float32


def flow_matching_losses(
    transformer: nn.Module,
    encoded: Encoded,
    generators: Sequence[torch.Generator],
    config: DitConfig,
    profile: Profile,
) -> Tensor:
    """Flow-matching loss of each sample, averaged over its m targets (Eq. 3).

    x_σ = (1 − σ)·x0 + σ·ε, target ε − x0.

    Args:
        transformer: predicts the velocity.
        encoded: latents and embeddings of the batch.
        generators: one per sample, for noise and noise level: its loss does not depend on the company.
        config: how noise levels are drawn.
        profile: tells the positions of the layers.

    Returns:
        (B,), float32.
    """
    grid_rows, grid_columns = (side // PATCH for side in encoded.targets_BLCHW.shape[-2:])
    n = 0 if encoded.inputs_BLCHW is None else encoded.inputs_BLCHW.shape[1]
    inputs_BSC = None if encoded.inputs_BLCHW is None else pack(encoded.inputs_BLCHW)
    clean_BSC = pack(encoded.targets_BLCHW)
    sigma_B = torch.stack([noise_level(config, generator) for generator in generators]).to(clean_BSC)
    noise_BSC = torch.stack([torch.randn(clean_BSC.shape[1:], generator=g) for g in generators]).to(clean_BSC)
    noisy_BSC = torch.lerp(clean_BSC, noise_BSC, sigma_B.view(-1, 1, 1))
    grid = (grid_rows, grid_columns)
    shapes = layer_shapes(grid, encoded.targets_BLCHW.shape[1], [grid] * n, profile.layer_order)
    predicted_BSC = velocity(transformer, noisy_BSC, inputs_BSC, sigma_B, encoded.prompt, shapes)
    # All targets have the same number of tokens: the mean over everything is the mean over the m targets.
    return (predicted_BSC.float() - (noise_BSC - clean_BSC).float()).square().mean(dim=(1, 2))


def divisible(encoded: Encoded, parts: int) -> Encoded:
    """The batch with its prompts padded so that `parts` processes can share the tokens evenly.

    Raises:
        InputError: the pictures' tokens cannot be shared evenly.
    """
    layers = encoded.targets_BLCHW.shape[1] + (0 if encoded.inputs_BLCHW is None else encoded.inputs_BLCHW.shape[1])
    rows, columns = encoded.targets_BLCHW.shape[-2:]
    if (tokens := layers * rows * columns // PATCH**2) % parts:
        raise InputError(f"{tokens} image tokens cannot be shared by {parts} processes; lower context_parallel.")
    embeds_BTD, mask_BT = encoded.prompt
    if missing := -embeds_BTD.shape[1] % parts:
        real = torch.ones(embeds_BTD.shape[:2], dtype=torch.bool, device=embeds_BTD.device)
        mask_BT = F.pad(real if mask_BT is None else mask_BT, (0, missing))
        embeds_BTD = F.pad(embeds_BTD, (0, 0, 0, missing))
    return dataclasses.replace(encoded, prompt=(embeds_BTD, mask_BT))


def noise_level(config: DitConfig, generator: torch.Generator) -> Tensor:
    """One σ in [0, 1], as `config.timesteps` and `config.sigma_shift` say."""
    uniform = config.timesteps == "uniform"
    sigma = torch.rand((), generator=generator) if uniform else torch.sigmoid(torch.randn((), generator=generator))
    return config.sigma_shift * sigma / (1 + (config.sigma_shift - 1) * sigma)


def learning_rate(config: DitConfig, step: int) -> float:
    """The rate of step number `step`, counted from 0."""
    if config.schedule == "cooldown":
        return config.learning_rate * warmup_and_cooldown(step, config.steps, config.warmup)
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup))


def by_task(losses: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    """Losses of all samples, and of those of each task.

    >>> by_task([("matting_auto", 0.5), ("matting_text", 1.5)])
    {'loss': [0.5, 1.5], 'loss/matting_auto': [0.5], 'loss/matting_text': [1.5]}
    """
    shown = {"loss": [loss for _, loss in losses]}
    for task, loss in losses:
        shown.setdefault(f"loss/{task}", []).append(loss)
    return shown


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _backward(
    model: nn.Module, rows: Sequence[Any], step: int, config: DitConfig, engine: Engine
) -> list[tuple[str, float]]:
    """Gradients of the mean loss of this process's rows; the task and loss of each."""
    parts = min(config.accumulate, len(rows))
    places = range(engine.rank, engine.rank + len(rows) * engine.world, engine.world)
    seeds = [int(np.random.SeedSequence([config.seed, step, place]).generate_state(1)[0]) for place in places]
    results: list[tuple[str, float]] = []
    for part in range(parts):
        mine = slice(part, None, parts)
        with engine.unsynced(model, last=part == parts - 1):
            losses_B, tasks = model(rows[mine], seeds[mine])
            # Engines average gradients over processes; those that share tokens have parts of one gradient to add up.
            engine.accelerator.backward(losses_B.sum() * (engine.tokens / len(rows)))
        results += zip(tasks, losses_B.tolist(), strict=True)
    return results
