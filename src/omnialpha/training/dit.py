"""Stage 2: train the transformer on all 21 tasks at once (Table 1, Eq. 3).

`train_joint` is the whole loop: draw a batch of one layer structure → encode the pictures with the frozen VAE → read
prompt and pictures with the VLM → noise the targets → predict the velocity → step → average → checkpoint. Transformer
and VLM learn together, from scratch: this makes the embedded checkpoint.

Shape suffixes: B batch, L layers, C channels, H height, W width, S tokens.
"""

import dataclasses
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omnialpha.data.examples import Example, make_example
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.models.latents import normalise, pack
from omnialpha.models.prompt import over_white
from omnialpha.models.transformer import layer_shapes, velocity
from omnialpha.models.vae import encode_frame
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import TASKS
from omnialpha.training.optim import Muon
from omnialpha.training.recipes import JointConfig
from omnialpha.training.state import load_state, save_state, warmup_and_cooldown

logger = logging.getLogger(__name__)

MIXTURE: dict[tuple[int, tuple[str, ...]], float] = {
    # (number of foregrounds in the scene, tasks drawn from it): weight. All tasks of a row share n and m.
    (1, ("text_to_image",)): 1.0,
    (1, ("foreground_to_background", "foreground_to_composite")): 0.6,
    (1, ("background_to_foreground", "background_to_composite")): 0.6,
    (1, ("matting_auto",)): 3.0,
    (1, ("removal_auto",)): 1.5,
    (1, ("matting_text",)): 0.3,
    (2, ("matting_text",)): 1.2,
    (1, ("matting_alpha", "matting_trimap", "matting_precise_mask", "matting_rough_mask")): 1.5,
    (1, ("removal_alpha", "removal_trimap", "removal_precise_mask", "removal_rough_mask")): 1.2,
    (2, ("matting_alpha", "matting_trimap", "matting_precise_mask", "matting_rough_mask")): 0.4,
    (2, ("removal_alpha", "removal_trimap", "removal_precise_mask", "removal_rough_mask")): 0.4,
    (2, ("foreground_to_background", "foreground_to_composite")): 0.2,
    (1, ("decomposition_auto",)): 2.5,
    (2, ("background_to_foreground",)): 0.2,
    (2, ("decomposition_auto",)): 0.6,
    (
        1,
        ("decomposition_alpha", "decomposition_trimap", "decomposition_precise_mask", "decomposition_rough_mask"),
    ): 1.2,
}
"""How often each task is drawn; a batch takes its samples from one row, so that they share their layer structure."""

TEXT_TOKENS = 24  # typical length of a prompt, for sizing batches
ENCODED_AT_ONCE = 32  # pictures through the VAE together: more outgrow the CPU's caches, at a third of the speed
TOKEN_PIXELS = 16  # side of the square of pixels behind one token


def draw_examples(corpus: Corpus, config: JointConfig, step: int) -> list[Example]:
    """The batch of one step: examples that share their numbers of inputs and targets."""
    rng = np.random.default_rng([config.seed, step])
    weights = np.array(list(MIXTURE.values()))
    num_foregrounds, names = list(MIXTURE)[rng.choice(len(weights), p=weights / weights.sum())]
    examples: list[Example] = []
    count = 1
    while len(examples) < count:
        scene = draw_scene(corpus, rng, config.size, num_foregrounds)
        examples.append(make_example(scene, TASKS[names[rng.integers(len(names))]], rng))
        pictures = len(examples[0].inputs) + len(examples[0].targets)
        count = max(1, config.batch_tokens // (pictures * (config.size // TOKEN_PIXELS) ** 2 + TEXT_TOKENS))
    return examples


def joint_loss(pipeline: OmniAlphaPipeline, examples: list[Example], config: JointConfig) -> Tensor:
    """Flow-matching loss of a batch, averaged over samples and targets (Eq. 3).

    x_σ = (1 − σ)·x0 + σ·ε, target ε − x0; random numbers come from torch's global generator.
    """
    n = len(examples[0].inputs)
    pictures_BLHW4 = torch.from_numpy(np.stack([(*e.inputs, *e.targets) for e in examples]))
    pictures_BL4HW = pictures_BLHW4.permute(0, 1, 4, 2, 3).contiguous()
    with torch.no_grad():
        parts = pictures_BL4HW.flatten(0, 1).mul(2).sub(1).split(ENCODED_AT_ONCE)
        moments = torch.cat([encode_frame(pipeline.vae, part) for part in parts])
        latents_BLCHW = normalise(moments.chunk(2, dim=1)[0].unflatten(0, pictures_BL4HW.shape[:2]), pipeline.vae)
        inputs_BSC = pack(latents_BLCHW[:, :n]) if n else None
        clean_BSC = pack(latents_BLCHW[:, n:])

    dropped = torch.rand(len(examples)) < config.prompt_dropout
    prompts = ["" if drop else example.prompt for drop, example in zip(dropped, examples, strict=True)]
    images = [list(over_white(pictures[:n])) for pictures in pictures_BL4HW]
    prompt = pipeline.prompt_encoder.embed(prompts, images)

    sigma = torch.sigmoid(torch.randn(len(examples)))
    sigma = config.sigma_shift * sigma / (1 + (config.sigma_shift - 1) * sigma)
    noise_BSC = torch.randn_like(clean_BSC)
    noisy_BSC = torch.lerp(clean_BSC, noise_BSC, sigma.view(-1, 1, 1))
    side = config.size // TOKEN_PIXELS
    shapes = layer_shapes((side, side), len(examples[0].targets), [(side, side)] * n, pipeline.profile.layer_order)
    predicted_BSC = velocity(pipeline.transformer, noisy_BSC, inputs_BSC, sigma, prompt, shapes)
    # All targets have the same number of tokens: the mean over everything is the mean over the m targets.
    return (predicted_BSC - (noise_BSC - clean_BSC)).square().mean()


def train_joint(config: JointConfig, pipeline: OmniAlphaPipeline, corpus: Corpus, folder: Path) -> OmniAlphaPipeline:
    """Train, or go on training, until `config.steps`; save the averaged weights to `folder / "pipeline"`.

    Args:
        config: every setting.
        pipeline: its transformer and text encoder are trained, its VAE is frozen.
        corpus: training split.
        folder: holds checkpoints, `log.jsonl`, `config.json` and the result.

    Returns:
        The pipeline with the averaged weights.
    """
    modules = nn.ModuleDict({"transformer": pipeline.transformer, "text_encoder": pipeline.text_encoder}).train()
    pipeline.vae.eval().requires_grad_(False)
    optimizers = make_optimizers(modules, config)
    average = {name: value.clone() for name, value in modules.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
    first = 0
    if (state := load_state(folder)) is not None:
        modules.load_state_dict(state["model"])
        average = state["average"]
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
        logger.info("resuming after step %d", first)

    start, samples, losses = time.monotonic(), 0, []
    prefetch = ThreadPoolExecutor(max_workers=1)  # draws the next batch while this one trains
    upcoming = prefetch.submit(draw_examples, corpus, config, first)
    for step in range(first, config.steps):
        torch.manual_seed(config.seed * 1_000_003 + step)
        examples = upcoming.result()
        upcoming = prefetch.submit(draw_examples, corpus, config, step + 1)
        loss = joint_loss(pipeline, examples, config)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = config.learning_rate * warmup_and_cooldown(
                step, config.steps, config.warmup
            )
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        update_average(average, modules, min(config.ema_decay, (1 + step) / (10 + step)))

        done = step + 1
        samples += len(examples)
        losses.append(loss.item())
        if done % config.log_every == 0:
            record = {"step": done, "loss": float(np.mean(losses)), "samples": samples}
            record["samples_per_s"] = samples / (time.monotonic() - start)
            losses = []
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            logger.info("%s", record)
        if done % config.save_every == 0 or done == config.steps:
            state = {"model": modules.state_dict(), "average": average}
            save_state(folder, done, state | {"optimizers": [optimizer.state_dict() for optimizer in optimizers]})

    prefetch.shutdown()
    modules.load_state_dict(average)
    modules.eval()
    pipeline.save_pretrained(folder / "pipeline")
    return pipeline


def make_optimizers(modules: nn.Module, config: JointConfig) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices of attention and MLPs, AdamW for the rest (embeddings, modulation, norms, ends)."""
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in modules.named_parameters():
        in_block = "transformer_blocks" in name or "language_model.layers" in name
        (hidden if in_block and parameter.ndim == 2 and "_mod." not in name else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return [Muon(hidden, lr=config.learning_rate), adamw]


@torch.no_grad()
def update_average(average: dict[str, Tensor], modules: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights, in place."""
    for name, value in modules.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
