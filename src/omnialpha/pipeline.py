"""OmniAlphaPipeline: M(x1 … xn; m, T) -> ŷ1 … ŷm, RGBA pictures in, RGBA layers out, one pass (paper Eq. 1).

`__call__` reads from top to bottom: understand the call, choose sizes, embed words and pictures, draw noise, denoise,
decode. Two ways to call it: ``task=`` one of the 21 tasks, which gives layer stacks, or ``prompt=`` for the bare model.
It is an ordinary diffusers pipeline: saving, offloading, callbacks, adapters and quantisation work as there.

Shape suffixes: B batch, L layers, C channels, H and W rows and columns, S tokens.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    QwenImageTransformer2DModel,
)
from diffusers.loaders import QwenImageLoraLoaderMixin
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLImageProcessorPil

from omnialpha.errors import InputError, nearest
from omnialpha.models.denoiser import Denoiser
from omnialpha.models.inputs import encode_pictures
from omnialpha.models.latents import PATCH, denormalise, unpack
from omnialpha.models.lora import check_fit
from omnialpha.models.pictures import Size, resize_layers, to_tensor
from omnialpha.models.profile import PAPER, Profile
from omnialpha.models.prompt import Embeddings, PromptEncoder, over_white, repeat_embeddings
from omnialpha.models.prompt_memory import PromptMemory
from omnialpha.models.sampling import guided_steps, initial_noise, resolution_shift
from omnialpha.models.step_cache import cache_config, cached
from omnialpha.models.transformer import TokenGrid, layer_shapes, with_layer_positions
from omnialpha.models.vae import single_frame
from omnialpha.outputs import OUTPUT_TYPES, OmniAlphaOutput, assemble
from omnialpha.request import Pictures, choose_sizes, fit_inputs, understand

StepCallback = Callable[[DiffusionPipeline, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class OmniAlphaPipeline(DiffusionPipeline, QwenImageLoraLoaderMixin):
    """One model for the 21 RGBA tasks of the paper's Table 1.

    Args:
        scheduler: flow-matching Euler scheduler.
        vae: RGBA VAE (4 image channels); see `models.vae`.
        text_encoder: the VLM that reads instruction and pictures.
        tokenizer: the VLM's tokenizer.
        transformer: the denoiser; its position embedding is replaced by MSRoPE-BiL.
        image_processor: the VLM's picture format; Qwen2.5-VL's defaults with the VLM's patch size when left out.
        profile: how these weights want to be used, a `Profile` or its dict; the paper's conventions when left out.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["image_processor"]  # noqa: RUF012  (diffusers' attribute)
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012

    scheduler: FlowMatchEulerDiscreteScheduler
    vae: AutoencoderKLQwenImage
    text_encoder: Qwen2_5_VLForConditionalGeneration
    tokenizer: Qwen2Tokenizer
    transformer: QwenImageTransformer2DModel
    image_processor: Qwen2VLImageProcessorPil

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLQwenImage,
        text_encoder: Qwen2_5_VLForConditionalGeneration,
        tokenizer: Qwen2Tokenizer,
        transformer: QwenImageTransformer2DModel,
        image_processor: Qwen2VLImageProcessorPil | None = None,
        profile: Profile | Mapping[str, Any] = PAPER,
    ) -> None:
        super().__init__()
        if image_processor is None:
            vision = text_encoder.config.vision_config
            image_processor = Qwen2VLImageProcessorPil(
                patch_size=vision.patch_size,
                merge_size=vision.spatial_merge_size,
                temporal_patch_size=vision.temporal_patch_size,
            )
        self.profile = profile if isinstance(profile, Profile) else Profile.from_dict(profile)
        self.register_modules(
            scheduler=scheduler,
            vae=single_frame(vae),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=with_layer_positions(transformer),
            image_processor=image_processor,
        )
        self.register_to_config(profile=self.profile.to_dict())
        self.before_few_step: tuple[Profile, FlowMatchEulerDiscreteScheduler] | None = None  # see `omnialpha.few_step`
        self.memory_plan, self.weights_hash = "full", ""  # how and of what `omnialpha.load(…, memory=…)` made it
        self._prompt_memory = PromptMemory()
        self._interrupt = False

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """The VLM conditioning, made of the pipeline's current components."""
        return PromptEncoder(self.text_encoder, self.tokenizer, self.image_processor, self.profile)

    @property
    def interrupt(self) -> bool:
        """Whether the running call skips its remaining steps; a callback may set ``pipe._interrupt``."""
        return self._interrupt

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as a folder for `omnialpha.load`; arguments as for `DiffusionPipeline.save_pretrained`.

        Raises:
            InputError: an adapter is attached: diffusers would write weights that cannot be loaded again.
        """
        if getattr(self.transformer, "peft_config", None):
            raise InputError(
                "cannot save a pipeline with an attached adapter; "
                "fuse it first (omnialpha.models.lora.fuse(pipe.transformer)) or save it alone (lora.save_lora)"
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def load_lora_into_transformer(
        cls, state_dict: dict[str, Tensor], transformer: QwenImageTransformer2DModel, **kwargs: Any
    ) -> None:
        """The step of ``load_lora_weights`` that attaches the adapter, made strict.

        Raises:
            CheckpointError: some keys of the adapter fit nothing; diffusers would only warn.
        """
        check_fit(transformer, state_dict, source="the adapter")
        super().load_lora_into_transformer(state_dict, transformer, **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        *,
        task: str | None = None,
        text: str | Sequence[str] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str = "",
        images: Pictures = None,
        num_targets: int | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        true_cfg_scale: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_embeds_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds_mask: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        step_cache: str | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> OmniAlphaOutput:
        """Generate m RGBA layers from n RGBA pictures and words.

        Args:
            task: id of a task; the task writes the prompt and checks the pictures.
            text: the caption, for tasks that take one; a list for a batch.
            prompt: the instruction itself (without ``task``); a list for a batch.
            negative_prompt: what guidance leads away from.
            images: the input pictures in order; a list of such lists is a batch, and one list serves all prompts.
                Pictures of a task share one size. Without ``task`` each is used at its own size.
            num_targets: m; by default the smallest number that the task allows, 1 without ``task``.
            num_images_per_prompt: samples of each batch entry, which differ in their noise. They are entries of their
                own, those of one prompt next to each other; what all of them read is encoded once.
            height: height of the results in pixels; by default that of the first picture.
            width: width of the results in pixels; by default that of the first picture.
            num_inference_steps: sampling steps; by default the profile's.
            true_cfg_scale: strength of classifier-free guidance; 1 or less turns it off; by default the profile's.
            guidance_interval: fractions of the steps between which guidance acts; the other steps take half the time.
            generator: source of the noise; a list has one for each batch entry.
            seed: the same as a number: entry k of a batch is drawn with ``seed + k``, whatever else is in the batch.
            latents: the noise itself, packed (B, S, 64).
            prompt_embeds: embeddings (B, T, D) instead of words.
            prompt_embeds_mask: (B, T), true for the real ones; None: all are.
            negative_prompt_embeds: the same for guidance.
            negative_prompt_embeds_mask: the same for guidance.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: False returns the values as a plain tuple, as diffusers' other pipelines do.
            attention_kwargs: passed on to the attention processors; ``{"scale": s}`` sets an adapter's strength.
            step_cache: skip most of the transformer at steps whose result is nearly known: "first_block", "magcache" or
                "taylorseer", or one with its threshold, as in "first_block=0.1"; see `models.step_cache`.
            callback_on_step_end: called as ``callback(pipe, step, timestep, tensors)`` after every step; may return
                changed tensors.
            callback_on_step_end_tensor_inputs: which tensors the callback gets: "latents", "prompt_embeds".

        Returns:
            Images and, in task mode, layer stacks. Working sizes are multiples of the model's grid (pictures are
            scaled, never cropped); results have exactly the size asked for.

        Raises:
            InputError: the call cannot be carried out as written.
            ImageError: an input picture cannot be used.
        """
        # 1. Understand the call.
        self._check_options(output_type, seed, generator, callback_on_step_end_tensor_inputs)
        request = understand(
            self.profile,
            task=task,
            text=text,
            prompt=prompt,
            images=images,
            num_targets=num_targets,
            steps=num_inference_steps,
            true_cfg_scale=true_cfg_scale,
            guidance_interval=guidance_interval,
            step_cache=step_cache,
            num_embeds=None if prompt_embeds is None else len(prompt_embeds),
            num_samples=num_images_per_prompt,
        )
        if request.steps == 1 and self.scheduler.config.shift_terminal:
            raise InputError("this scheduler stretches its last step, which takes num_inference_steps=2 or more")
        cache = cache_config(step_cache, request.steps, self.profile.mag_ratios)
        B, m = len(request.prompts), request.num_targets
        guided = guided_steps(request.steps, request.true_cfg_scale, request.guidance_interval)
        device = self._execution_device
        self._interrupt = False

        # 2. Sizes: exact ones for the results, multiples of the grid for the work.
        exact_size, work_size = choose_sizes(request, self.profile, height, width)
        explicit = height is not None or width is not None
        pictures = fit_inputs(request, self.profile, work_size, explicit=explicit)

        # 3. Words and pictures through the VLM: nothing that prompts, guidance or samples share is read twice.
        words: list[list[str] | Embeddings] = [
            request.prompts if prompt_embeds is None else (prompt_embeds, prompt_embeds_mask)
        ]
        if guided:
            words.append(
                self._negative_words(negative_prompt, pictures, device)
                if negative_prompt_embeds is None
                else (negative_prompt_embeds, negative_prompt_embeds_mask)
            )
        positive, *negative = self._embed(words, pictures, device)
        dtype = positive[0].dtype

        # 4. Noise for the targets, clean latents of the inputs, layer positions for both.
        target_grid = work_size[1] // self._token_size, work_size[0] // self._token_size
        noise_shape = (B, m, self.vae.config.z_dim, target_grid[0] * PATCH, target_grid[1] * PATCH)
        x = initial_noise(noise_shape, latents=latents, generator=generator, seed=seed, device=device, dtype=dtype)
        inputs_BSC, input_grids = encode_pictures(self.vae, pictures, self.profile, device, dtype)
        shapes = layer_shapes(target_grid, m, input_grids, self.profile.layer_order)

        # 5. Noise levels, shifted for the number of target tokens.
        mu = resolution_shift(x.shape[1], self.scheduler.config)
        sigmas = np.linspace(1.0, 1 / request.steps, request.steps)
        self.scheduler.set_timesteps(sigmas=sigmas, mu=mu, device=device)
        self.scheduler.set_begin_index(0)

        # 6. Denoise.
        denoise = Denoiser(
            self.transformer,
            inputs_BSC,
            shapes,
            self.scheduler.timesteps.to(dtype) / 1000,
            true_cfg_scale=request.true_cfg_scale,
            guided_steps=guided,
            attention_kwargs=attention_kwargs,
        )
        with cached(self.transformer, cache), self.progress_bar(total=request.steps) as progress:
            for step, timestep in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                v = denoise(x, step, positive, *negative)
                x = self.scheduler.step(v, timestep, x, return_dict=False)[0].to(dtype)
                if callback_on_step_end is not None:
                    tensors = {"latents": x, "prompt_embeds": positive[0]}
                    offered = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors |= callback_on_step_end(self, step, timestep, offered) or {}
                    x, positive = tensors["latents"], (tensors["prompt_embeds"], positive[1])
                progress.update()

        # 7. Decode at the working size, return at the exact one.
        if output_type == "latent":
            output = OmniAlphaOutput(images=x)
        else:
            layers_BLCHW = self._decode(x, target_grid, exact_size)
            output = assemble(layers_BLCHW, request, self.profile, output_type, seed, work_size)
        self.maybe_free_model_hooks()
        return output if return_dict else cast(Any, output.to_tuple())

    @property
    def _token_size(self) -> int:
        """Pixels along one side of a transformer token."""
        return self.vae.spatial_compression_ratio * PATCH

    def _check_options(
        self,
        output_type: str,
        seed: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        callback_tensors: Sequence[str],
    ) -> None:
        """Refuse what does not depend on the request."""
        if output_type not in OUTPUT_TYPES:
            suggestion = nearest(output_type, OUTPUT_TYPES)
            raise InputError(f'unknown output_type "{output_type}", expected one of {OUTPUT_TYPES}{suggestion}')
        if seed is not None and generator is not None:
            raise InputError("received both seed and generator; pass one of them")
        if unknown := set(callback_tensors) - set(self._callback_tensor_inputs):
            raise InputError(f"callbacks can get {self._callback_tensor_inputs}, received {sorted(unknown)}")
        channels = self.vae.config.get("input_channels", 3)
        if channels != 4:
            raise InputError(
                f"this pipeline's VAE has {channels} image channels, expected 4 (RGBA); "
                "load the base together with an adapter: omnialpha.load(base, adapter=…)"
            )

    def _negative_words(
        self, prompt: str, pictures: list[list[Image.Image]], device: torch.device
    ) -> list[str] | Embeddings:
        """What guidance leads away from: without pictures the same in every call, and remembered."""
        if any(pictures):
            return [prompt] * len(pictures)
        return self._prompt_memory.embed(self.prompt_encoder, prompt, device), None

    def _embed(
        self, words: Sequence[list[str] | Embeddings], pictures: list[list[Image.Image]], device: torch.device
    ) -> list[Embeddings]:
        """Embed each list of prompts together with the pictures; embeddings that are there serve all samples."""
        prompts = [entry for entry in words if isinstance(entry, list)]
        tensors = {id(image): over_white(to_tensor(image)) for entry in pictures for image in entry}
        seen = [[tensors[id(image)] for image in entry] for entry in pictures]
        made = iter(self.prompt_encoder.embed_each(prompts, seen, device) if prompts else [])
        return [
            next(made) if isinstance(entry, list) else repeat_embeddings(entry, len(pictures), device)
            for entry in words
        ]

    def _decode(self, tokens_BSC: Tensor, grid: TokenGrid, size: Size) -> Tensor:
        """Layers (B, L, 4, H, W) as float32 in [0, 1] at the given size."""
        z_BLCHW = unpack(tokens_BSC, grid[0] * PATCH, grid[1] * PATCH).to(self.vae.dtype)
        z_NCTHW = denormalise(z_BLCHW, self.vae).flatten(0, 1).unsqueeze(2)
        x_NCHW = self.vae.decode(z_NCTHW, return_dict=False)[0].squeeze(2).float()
        layers_NCHW = resize_layers((x_NCHW / 2 + 0.5).clamp(0, 1), size)
        return layers_NCHW.unflatten(0, z_BLCHW.shape[:2])
