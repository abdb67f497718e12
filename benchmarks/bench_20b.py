"""Calls of the stock pipeline and of ours around one set of random weights, each with its time, memory and use."""

import gc
import time
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import torch
from ceiling import matmul_ceiling
from flops import transformer_flops
from model_20b import PROFILE, SCHEDULER, Components, Scale, components, noise, our_pipeline, picture, stock_pipeline
from stopwatch import cuda_clock, processor_clock, timed_pieces
from torch import Tensor

from omnialpha.memory.apply import cast_layers, put_in_place
from omnialpha.memory.architecture import Architecture
from omnialpha.memory.forecast import choose
from omnialpha.memory.machine import measure
from omnialpha.memory.plans import in_place
from omnialpha.memory.trace import Work
from omnialpha.models.pictures import to_tensor
from omnialpha.models.prompt import over_white
from omnialpha.pipeline import OmniAlphaPipeline

PROMPT = "Take this picture apart into its layers."
GUIDANCE = 4.0
UNLIMITED_GB = 1000  # in a trial without a GPU

Variant = Callable[[OmniAlphaPipeline], dict[str, Any]]
"""Prepares a fresh pipeline of ours; returns further arguments of its call."""


class Bench:
    """The weights, made when they are first needed, and what is measured with them.

    Args:
        scale: architecture and size of the work.
        device: CUDA, or the CPU for a trial.
    """

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale, self.device = scale, device
        self.cuda = device.type == "cuda"
        self.dtype = torch.bfloat16 if self.cuda else torch.float32
        self.picture = picture(scale.side)
        self.ceiling: float | None = None  # operations per second
        self._layers: dict[tuple[str, int, int], Tensor] = {}  # what calls returned, by name, m and steps

    @cached_property
    def parts(self) -> Components:
        """All weights."""
        return components(self.scale, self.device, self.dtype)

    def make_weights(self) -> dict[str, Any]:
        """Fill the weights; their sizes."""
        modules = {name: getattr(self.parts, name) for name in ("transformer", "vae", "text_encoder")}
        return {f"{name}_parameters": sum(w.numel() for w in module.parameters()) for name, module in modules.items()}

    def measure_ceiling(self) -> dict[str, Any]:
        """The fastest matrix product."""
        side, d = 8192 if self.cuda else 128, self.parts.transformer.inner_dim
        tokens = 2 * (self.scale.side // 16) ** 2
        shapes = [(side, side, side), (tokens, d, 4 * d), (tokens, 4 * d, d), (2 * tokens, d, d)]
        found = matmul_ceiling(shapes, self.device, self.dtype)
        self.ceiling = max(found.values())
        return {
            "tflops": round(self.ceiling / 1e12, 3),
            "tflops_by_shape": {name: round(rate / 1e12, 3) for name, rate in found.items()},
        }

    @torch.no_grad()
    def measure_stock(self, num_targets: int, steps: int) -> dict[str, Any]:
        """A call of the stock pipeline."""
        rival = stock_pipeline(self.parts)
        noise_LSC = noise(self.scale, num_targets, self.device, self.dtype)

        def call(steps: int) -> Tensor:
            return rival([self.picture], PROMPT, noise_LSC, steps=steps, true_cfg_scale=GUIDANCE)

        return self._measured("stock", rival.pipe, call, num_targets, steps)

    def measure_ours(self, name: str, variant: Variant, num_targets: int, steps: int) -> dict[str, Any]:
        """A call of our pipeline."""
        pipe = our_pipeline(self.parts)
        call = self._our_call(pipe, num_targets, variant(pipe))
        figures = self._measured(name, pipe, call, num_targets, steps)
        return figures | self._differences(name, num_targets, steps)

    def measure_plan(self, limit_gb: float) -> dict[str, Any]:
        """The plan chosen for so much memory: whether it stays within, and how well its peak was foretold."""
        num_targets, steps = 4, 2
        work = Work(
            task="decomposition_auto",
            size=(self.scale.side, self.scale.side),
            targets=num_targets,
            steps=steps,
            guidance=GUIDANCE,
        )
        architecture = Architecture(
            name=PROFILE.name,
            transformer=self.scale.transformer,
            vae={"input_channels": 4, **self.scale.vae},
            text_encoder=self.scale.vlm,
            scheduler=SCHEDULER,
            image_processor={},
            profile=PROFILE,
        )
        limit = (limit_gb if self.cuda else UNLIMITED_GB) * 1e9
        machine = measure(self.device, (self.dtype,))
        plans = in_place(self.device.type)
        found = choose(architecture, work, machine, dtype=self.dtype, plans=plans, limit=limit)
        self._move_weights("cpu")
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
        try:
            pipe = our_pipeline(self.parts)
            cast_layers(pipe.transformer, found.plan)
            put_in_place(pipe, found.plan, self.device)
            call = self._our_call(pipe, num_targets, {})
            start = time.perf_counter()
            call(steps)
            self._synchronize()
            seconds = time.perf_counter() - start
        finally:
            if self.cuda:
                torch.cuda.set_per_process_memory_fraction(1.0)
        figures = {
            "plan": found.plan.name,
            "steps": steps,
            "num_targets": num_targets,
            "foretold_gb": round(found.peak / 1e9, 2),
            "foretold_seconds": round(found.seconds, 1),
            "seconds": round(seconds, 1),
        }
        if self.cuda:
            peak = torch.cuda.max_memory_allocated()
            reserved = torch.cuda.max_memory_reserved()
            figures |= {"peak_gb": round(peak / 1e9, 2), "reserved_gb": round(reserved / 1e9, 2)}
            figures["foretold_over_measured"] = round(found.peak / peak, 3)
        return figures

    def tidy(self) -> None:
        """Give back what a part left."""
        torch.compiler.reset()
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def _our_call(self, pipe: OmniAlphaPipeline, num_targets: int, options: dict[str, Any]) -> Callable[[int], Tensor]:
        noise_LSC = noise(self.scale, num_targets, self.device, self.dtype)

        def call(steps: int) -> Tensor:
            output = pipe(
                prompt=PROMPT,
                images=[self.picture],
                num_targets=num_targets,
                num_inference_steps=steps,
                true_cfg_scale=GUIDANCE,
                latents=noise_LSC.flatten(0, 1).unsqueeze(0),
                output_type="pt",
                **options,
            )
            return output.images[0]

        return call

    def _measured(
        self, name: str, pipe: Any, call: Callable[[int], Tensor], num_targets: int, steps: int
    ) -> dict[str, Any]:
        """Seconds, memory and use of one call after a short one that warms up."""
        call(2)
        self._synchronize()
        before = torch.cuda.memory_allocated() if self.cuda else 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with timed_pieces(pipe, cuda_clock if self.cuda else processor_clock) as spans:
            layers_L4HW = call(steps)
            self._synchronize()
            seconds = time.perf_counter() - start
        self._layers[name, num_targets, steps] = layers_L4HW.float().cpu()
        per_step = spans.from_first_to_last("denoise") / steps
        figures: dict[str, Any] = {
            "seconds": round(seconds + (self.scale.steps - steps) * per_step, 3),
            "steps_measured": steps,
            "extrapolated_to_steps": None if steps == self.scale.steps else self.scale.steps,
            "seconds_per_step": round(per_step, 4),
            "seconds_in": {piece: round(value, 3) for piece, value in spans.seconds().items()},
            "transformer_calls": len(spans.marks["denoise"]),
        }
        if self.cuda:
            beyond = torch.cuda.max_memory_allocated() - before
            figures["peak_gb"] = round((weight_bytes(pipe) + beyond) / 1e9, 2)
            figures["beyond_weights_gb"] = round(beyond / 1e9, 2)
        if self.ceiling is not None:
            rate = self._step_flops(num_targets) / per_step
            figures |= {"model_tflops": round(rate / 1e12, 3), "mfu": round(rate / self.ceiling, 3)}
        return figures

    @cache  # noqa: B019  (one bench per process)
    def _step_flops(self, num_targets: int) -> int:
        """Operations of one full step: both branches of guidance, without padding."""
        seen_3HW = over_white(to_tensor(self.picture))
        with torch.no_grad():
            prompts = our_pipeline(self.parts).prompt_encoder.embed_each([[PROMPT], [""]], [[seen_3HW]], self.device)
        tokens = (num_targets + 1) * (self.scale.side // 16) ** 2
        config = self.parts.transformer.config
        return sum(
            transformer_flops(config, image_tokens=tokens, text_tokens=embeds_BTD.shape[1]) for embeds_BTD, _ in prompts
        )

    def _differences(self, name: str, num_targets: int, steps: int) -> dict[str, float]:
        """Mean difference of the layers' values, in [0, 1], to stock and to ours as loaded, where the same call ran."""
        found = {}
        for other in ("stock", "ours"):
            reference = self._layers.get((other, num_targets, steps))
            if other != name and reference is not None:
                difference = (self._layers[name, num_targets, steps] - reference).abs().mean().item()
                found[f"mean_difference_to_{other}"] = round(difference, 6)
        return found

    def _move_weights(self, device: str) -> None:
        for module in (self.parts.transformer, self.parts.vae, self.parts.text_encoder):
            module.to(device)

    def _synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def weight_bytes(pipe: Any) -> int:
    """Bytes of a pipeline's weights, shared ones once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for module in (pipe.transformer, pipe.vae, pipe.text_encoder)
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(storages.values())
