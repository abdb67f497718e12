"""Look at a model while it is trained: pictures and scores of a fixed set of held-out examples."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from omnialpha.data.examples import Example
from omnialpha.evaluation.accumulate import Mean
from omnialpha.evaluation.generation import psnr
from omnialpha.evaluation.matting import mad
from omnialpha.imaging.rgba import to_pil
from omnialpha.models.prompt import Embeddings, over_white
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.tasks import TASKS
from omnialpha.training.dit_config import DitConfig

BEST_PSNR = 100.0  # dB: that of equal pictures is infinite, and so would be every mean with one of them
SCORED = ("matting", "removal", "decomposition")  # categories with one right answer
PAGE_GREY = 128
GAP = 4  # pixels between pictures


class Validation:
    """A fixed set of examples, sampled without guidance.

    Where the VLM is frozen it reads them once, at the beginning, and may then leave the device.

    Args:
        pipeline: the model that is trained.
        examples: the first `config.validate_samples` of them are used.
        config: number of samples and sampling steps.
        accelerator: device and precision.
    """

    def __init__(
        self, pipeline: OmniAlphaPipeline, examples: Sequence[Example], config: DitConfig, accelerator: Accelerator
    ) -> None:
        self._pipeline, self._config, self._accelerator = pipeline, config, accelerator
        self._examples = examples[: config.validate_samples]
        self._embeddings = None if config.train_text_encoder else self._embed()

    @torch.no_grad()
    def run(self) -> tuple[dict[str, float], Image.Image]:
        """Predict all examples.

        Returns:
            Mean scores: `<category>_mad` of foregrounds' alpha, `<category>_psnr` of backgrounds in dB, for matting,
            removal and decomposition; and a page with a block per example: inputs | targets | predictions, over black
            above and over white below.
        """
        pipeline, device = self._pipeline, self._accelerator.device
        home = pipeline.vae.device  # not the training device where latents come from a cache
        was_training = pipeline.transformer.training
        pipeline.transformer.eval()
        pipeline.vae.to(device)
        embeddings = self._embed() if self._embeddings is None else self._embeddings
        sampler = OmniAlphaPipeline(
            scheduler=pipeline.scheduler, vae=pipeline.vae, text_encoder=None, tokenizer=pipeline.tokenizer,
            transformer=pipeline.transformer, image_processor=pipeline.image_processor, profile=pipeline.profile,
        )  # fmt: skip
        sampler.set_progress_bar_config(disable=True)
        mean, blocks = Mean(), []
        for number, (example, embedding) in enumerate(zip(self._examples, embeddings, strict=True)):
            with self._accelerator.autocast():
                predictions = self._predict(sampler, example, embedding, seed=number)
            mean.update(scores(example, predictions))
            blocks.append(_block([*example.inputs, *example.targets, *predictions]))
        pipeline.vae.to(home)
        pipeline.transformer.train(was_training)
        return mean.compute(), _page(blocks)

    def _predict(
        self, sampler: OmniAlphaPipeline, example: Example, embedding: Embeddings, seed: int
    ) -> list[np.ndarray]:
        """The target layers in Table 1's order, float32 (H, W, 4) in [0, 1]."""
        height, width = example.targets[0].shape[:2]
        output = sampler(
            prompt_embeds=embedding[0],
            prompt_embeds_mask=embedding[1],
            images=[to_pil(picture) for picture in example.inputs] or None,
            num_targets=len(example.targets),
            height=height,
            width=width,
            num_inference_steps=self._config.validate_steps,
            true_cfg_scale=1.0,
            seed=seed,
            output_type="np",
        )
        layers = list(output.images[0])
        return layers[::-1] if sampler.profile.layer_order == "released" else layers

    @torch.no_grad()
    def _embed(self) -> list[Embeddings]:
        """What the VLM makes of each example, on the CPU."""
        encoder = self._pipeline.text_encoder
        home = encoder.device
        encoder.to(self._accelerator.device)
        embeddings: list[Embeddings] = []
        for example in self._examples:
            pictures = [over_white(torch.from_numpy(picture).permute(2, 0, 1)) for picture in example.inputs]
            hidden, mask = self._pipeline.prompt_encoder.embed([example.prompt], [pictures])
            embeddings.append((hidden.cpu(), None if mask is None else mask.cpu()))
        encoder.to(home)
        return embeddings


def scores(example: Example, predictions: Sequence[np.ndarray]) -> dict[str, float]:
    """Scores of one example, empty for tasks without one right answer.

    Args:
        example: with targets in Table 1's order.
        predictions: layers in the same order and of the same size, float (H, W, 4) in [0, 1].
    """
    task = TASKS[example.task]
    if task.category not in SCORED:
        return {}
    mean = Mean()
    names = task.layer_names(len(example.targets))
    for name, target, prediction in zip(names, example.targets, predictions, strict=True):
        if name == "background":
            value = min(psnr(prediction[..., :3], target[..., :3]), BEST_PSNR)
            mean.update({f"{task.category}_psnr": value})
        else:
            mean.update({f"{task.category}_mad": mad(prediction[..., 3], target[..., 3])})
    return mean.compute()


def _block(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, over black above and over white below, (H, W, 3) bytes."""
    rows = []
    for ground in (0.0, 1.0):
        cells = [picture[..., :3] * picture[..., 3:] + ground * (1 - picture[..., 3:]) for picture in pictures]
        rows.append(
            np.concatenate([np.pad(cell, ((0, 0), (0, GAP), (0, 0)), constant_values=0.5) for cell in cells], 1)
        )
    return (np.concatenate(rows) * 255).round().astype(np.uint8)


def _page(blocks: Sequence[np.ndarray]) -> Image.Image:
    """Blocks below one another."""
    width = max(block.shape[1] for block in blocks)
    padded = [
        np.pad(block, ((0, GAP), (0, width - block.shape[1]), (0, 0)), constant_values=PAGE_GREY) for block in blocks
    ]
    return Image.fromarray(np.concatenate(padded))
