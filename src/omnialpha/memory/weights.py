"""How many bytes a model's weights take, as each plan holds them: counted on meta tensors of one and of two blocks."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor, nn

from omnialpha.memory.architecture import Architecture, few
from omnialpha.memory.plans import Plan
from omnialpha.memory.trace import TEXT_ENCODER, TRANSFORMER, VAE_ENCODER, VISION
from omnialpha.pipeline import OmniAlphaPipeline

NF4 = 0.5 + 4 / 64
"""Bytes per weight: four bits, and a float32 scale for 64 of them."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model's weights, in numbers of values.

    Attributes:
        total: all of them.
        linear: in the matrices of the linear layers, which quantisation takes; without an adapter's.
        rows: rows of these matrices.
        cast: in the layers that layerwise casting takes.
        largest: in the largest matrix.
        leaf: in the largest layer.
        block: in one of the repeated blocks.
    """

    total: int
    linear: int
    rows: int
    cast: int
    largest: int
    leaf: int
    block: int = 0

    def grown(self, few: "Weights", more: "Weights", blocks: int) -> "Weights":
        """The same with more of a part's equal blocks.

        Args:
            few: the part as it is in this model.
            more: the part with one block more.
            blocks: how many are to be added.
        """
        return dataclasses.replace(
            self,
            total=self.total + blocks * (more.total - few.total),
            linear=self.linear + blocks * (more.linear - few.linear),
            rows=self.rows + blocks * (more.rows - few.rows),
            cast=self.cast + blocks * (more.cast - few.cast),
            block=more.total - few.total,
        )

    def stored(self, plan: Plan, dtype: torch.dtype) -> int:
        """Bytes of all weights, held as a plan says.

        Args:
            plan: the plan.
            dtype: in which the model computes; what is not quantised is held so.
        """
        size, rest = dtype.itemsize, self.total - self.linear
        match plan.storage:
            case "gguf":
                assert plan.file is not None  # `parse` and `candidates` see to it
                return plan.file.stat().st_size
            case "bf16_layerwise":
                return 2 * self.cast + size * (self.total - self.cast)
            case "fp8_layerwise":
                return self.cast + size * (self.total - self.cast)
            case "int8":  # and a byte for the zero point of each row
                return self.linear + self.rows * (size + 1) + size * rest
            case "fp8":
                return self.linear + self.rows * size + size * rest
            case "nf4":
                return int(NF4 * self.linear) + size * rest
        return size * self.total

    def unpacked(self, plan: Plan, dtype: torch.dtype) -> int:
        """Bytes of the largest matrix, brought back to the dtype of the computation where the plan stores another."""
        return 0 if plan.storage in ("full", "bf16") else self.largest * dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class PipelineWeights:
    """The weights of a whole pipeline.

    Attributes:
        text_encoder: the VLM's.
        transformer: the denoiser's, with an adapter's.
        vae: the VAE's.
        depth: blocks of the transformer.
    """

    text_encoder: Weights
    transformer: Weights
    vae: Weights
    depth: int

    def bytes(self, plan: Plan, dtype: torch.dtype) -> tuple[int, int, int]:
        """Bytes of text encoder, transformer and VAE; of these plans change the transformer alone."""
        size = dtype.itemsize
        return self.text_encoder.total * size, self.transformer.stored(plan, dtype), self.vae.total * size

    def resident(self, plan: Plan, dtype: torch.dtype, stage: str, kind: str) -> int:
        """Bytes of weights that a plan has on the device at one stage.

        Args:
            plan: the plan.
            dtype: in which the models compute.
            stage: one of `trace.STAGES`.
            kind: of the device, "cpu" or "cuda".
        """
        encoder, transformer, vae = self.bytes(plan, dtype)
        reading, denoising = stage in (TEXT_ENCODER, VISION), stage == TRANSFORMER
        unpacked = self.transformer.unpacked(plan, dtype) if denoising else 0
        match plan.offload:
            case "model_offload":  # diffusers sends a model away when the next in its order comes; the VAE is the last
                return (
                    encoder * (stage in (TEXT_ENCODER, VISION, VAE_ENCODER))
                    + transformer * denoising
                    + vae * (not reading)
                    + unpacked
                )
            case "free_text_encoder":
                if denoising and plan.storage.endswith("_layerwise"):  # read whole, in the dtype, before it is cast
                    transformer, unpacked = self.transformer.total * dtype.itemsize, 0
                return (encoder if reading or stage == VAE_ENCODER else transformer) + vae + unpacked
            case "group_offload":
                ahead = 1 if kind == "cpu" else 2  # a stream fetches the next group while one works
                if reading:  # layer by layer
                    return min(encoder, ahead * self.text_encoder.leaf * dtype.itemsize) + vae
                if not denoising:
                    return vae
                fixed = self.transformer.total - self.depth * self.transformer.block
                if plan.storage.endswith("_layerwise"):  # what has come as a block is cast as a block
                    unpacked = self.transformer.block * dtype.itemsize
                share = min(1.0, (fixed + ahead * self.transformer.block) / self.transformer.total)
                return int(share * transformer) + vae + unpacked
        return encoder + transformer + vae + unpacked


def pipeline_weights(architecture: Architecture, small: OmniAlphaPipeline, large: OmniAlphaPipeline) -> PipelineWeights:
    """Count a pipeline, given as for `trace.trace`; the transformers cannot be used afterwards."""
    encoder, transformer = count(small.text_encoder), count(small.transformer)
    for part, depth in (("visual", architecture.vision_depth), ("language_model", architecture.text_depth)):
        first, second = (count(getattr(pipe.text_encoder.model, part)) for pipe in (small, large))
        encoder = encoder.grown(first, second, depth - few(depth))
    return PipelineWeights(
        text_encoder=encoder,
        transformer=transformer.grown(
            transformer, count(large.transformer), architecture.depth - few(architecture.depth)
        ),
        vae=count(small.vae),
        depth=architecture.depth,
    )


def count(model: nn.Module) -> Weights:
    """Count a model on the meta device; in a transformer layerwise casting is turned on, to see what it takes."""
    matrices = _matrices(model)
    total, cast = _values(model.parameters()), 0
    if isinstance(model, QwenImageTransformer2DModel):
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=model.dtype)
        cast = _values(parameter for parameter in model.parameters() if parameter.dtype == torch.float8_e4m3fn)
    return Weights(
        total=total,
        linear=_values(matrices),
        rows=sum(map(len, matrices)),
        cast=cast,
        largest=max((matrix.numel() for matrix in matrices), default=0),
        leaf=max(_values(module.parameters(recurse=False)) for module in model.modules()),
    )


def _matrices(model: nn.Module) -> list[Tensor]:
    """What quantisation takes; adapters are attached afterwards."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [layer.weight for name, layer in layers if "lora_" not in name]


def _values(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
