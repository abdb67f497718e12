"""The rival of the end-to-end figures: stock diffusers, driven with several targets as the released software drives it.

Stock, untouched and doing all of the work: `QwenImageEditPlusPipeline` with its own ``__call__`` (prompts, latents,
noise levels, loop, guidance), `QwenImageTransformer2DModel` with `QwenEmbedRope`, `AutoencoderKLQwenImage` with its
causal 3-D convolutions, `FlowMatchEulerDiscreteScheduler`, `Qwen2_5_VLForConditionalGeneration`, the code of
`Qwen2VLProcessor`. So both prompts go through the VLM with all pictures, and every step calls the transformer twice.

Glue, without which the stock call cannot do the job at all; it costs no measurable time:

- several targets: the image shapes that the transformer receives name m targets instead of one; the noise of all
  targets comes as one sequence; the layers are decoded as a batch, as `QwenImageLayeredPipeline` does it;
- sizes: the two module constants for picture areas (1024² for the VAE, 384² for the VLM) are set to those of the run;
- the processor: without its video half, which needs torchvision; pictures over white, as the released software shows
  them; the checkpoint's announcement of a picture;
- token types: the stock pipeline does not hand the processor's ``mm_token_type_ids`` on to the VLM, and transformers 5
  then places pictures as if they were text; they are handed on, as the weights expect.

Stock positions count images from 0 in sequence order, and only differences matter: the targets come back to front,
which gives both layer orders of `models.rope` shifted by m.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as stock_module
from PIL import Image
from torch import Tensor
from transformers import (
    BatchFeature,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from omnialpha.models.profile import QWEN_PICTURE_TEMPLATE, Profile


class StockProcessor(Qwen2VLProcessor):
    """The stock processor without videos; ``picture_template`` announces the pictures."""

    def __init__(self, image_processor: Qwen2VLImageProcessorPil, tokenizer: Qwen2Tokenizer) -> None:
        super().__init__(image_processor, tokenizer)
        self.picture_template = QWEN_PICTURE_TEMPLATE

    def __call__(self, images: Sequence[Image.Image], text: list[str], **options: Any) -> BatchFeature:
        for number in range(1, len(images) + 1):
            stock, ours = (
                template.replace("{}", str(number)) for template in (QWEN_PICTURE_TEMPLATE, self.picture_template)
            )
            text = [line.replace(stock, ours, 1) for line in text]
        white = Image.new("RGBA", images[0].size, "white")
        return super().__call__(
            [Image.alpha_composite(white, image).convert("RGB") for image in images], text, **options
        )


class Rival:
    """A stock pipeline of the given components that takes several targets.

    Args:
        pipe: the stock pipeline, its components untouched.
        profile: sizes and templates of the checkpoint.
    """

    def __init__(self, pipe: QwenImageEditPlusPipeline, profile: Profile) -> None:
        self.pipe = pipe
        self.profile = profile
        pipe.set_progress_bar_config(disable=True)
        pipe.prompt_template_encode = profile.prompt_template
        prefix = profile.prompt_template.split("{}")[0]
        pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(prefix)["input_ids"])
        pipe.processor.picture_template = profile.picture_template

    @torch.no_grad()
    def __call__(
        self, images: list[Image.Image], prompt: str, noise_LSC: Tensor, *, steps: int, true_cfg_scale: float
    ) -> Tensor:
        """The layers (m, 4, H, W) in [0, 1], back to front.

        Args:
            images: the "RGBA" inputs, of one size, sides multiples of 32: the size of the results.
            prompt: the instruction.
            noise_LSC: packed noise of each target, back to front.
            steps: sampling steps.
            true_cfg_scale: guidance; the negative prompt is empty.
        """
        width, height = images[0].size
        with _several_targets(self.pipe, len(noise_LSC)), _areas(width * height, self.profile.vlm_area):
            tokens_BSC = self.pipe(
                images,
                prompt,
                negative_prompt="",
                true_cfg_scale=true_cfg_scale,
                height=height,
                width=width,
                num_inference_steps=steps,
                latents=noise_LSC.flatten(0, 1).unsqueeze(0),
                output_type="latent",
            ).images
        return self._decode(tokens_BSC.unflatten(1, noise_LSC.shape[:2])[0], height, width)

    def _decode(self, tokens_LSC: Tensor, height: int, width: int) -> Tensor:
        """What the stock call does with the latents of one target, for a batch of them."""
        pipe, vae = self.pipe, self.pipe.vae
        latents_LCTHW = pipe._unpack_latents(tokens_LSC, height, width, pipe.vae_scale_factor).to(vae.dtype)
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        layers = vae.decode(latents_LCTHW * std.to(latents_LCTHW) + mean.to(latents_LCTHW), return_dict=False)[0]
        return pipe.image_processor.postprocess(layers[:, :, 0], output_type="pt")


@contextmanager
def _areas(own: int, vlm_limit: int | None) -> Iterator[None]:
    """Set the areas to which the stock module scales pictures: their own, for the VLM within the profile's limit."""
    with (
        mock.patch.object(stock_module, "VAE_IMAGE_SIZE", own),
        mock.patch.object(stock_module, "CONDITION_IMAGE_SIZE", min(own, vlm_limit or own)),
    ):
        yield


@contextmanager
def _several_targets(pipe: QwenImageEditPlusPipeline, num_targets: int) -> Iterator[None]:
    """Name all targets in the transformer's image shapes, and the pictures' tokens to the VLM, for one call."""

    def name_targets(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        (target, *inputs), *_ = kwargs["img_shapes"]
        return args, kwargs | {"img_shapes": [[target] * num_targets + inputs]}

    def name_pictures(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        types = pipe.processor.create_mm_token_type_ids(kwargs["input_ids"].tolist())
        return args, kwargs | {"mm_token_type_ids": torch.tensor(types, device=kwargs["input_ids"].device)}

    with ExitStack() as stack:
        for module, hook in ((pipe.transformer, name_targets), (pipe.text_encoder, name_pictures)):
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def load_rival(folder: Path, profile: Profile) -> Rival:
    """The stock pipeline with the weights of a folder in our layout, float32 on the CPU."""
    options = {"torch_dtype": torch.float32}
    tokenizer = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
    pipe = QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler"),
        vae=AutoencoderKLQwenImage.from_pretrained(folder, subfolder="vae", **options),
        text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        tokenizer=tokenizer,
        processor=StockProcessor(Qwen2VLImageProcessorPil.from_pretrained(folder / "image_processor"), tokenizer),
        transformer=QwenImageTransformer2DModel.from_pretrained(folder, subfolder="transformer", **options),
    )
    return Rival(pipe, profile)
