"""How much memory training the 20B base takes, reckoned from meta tensors: no weights are needed, none are made.

Parameters are counted on the real classes with the real adapter. Activations are what autograd keeps of one block, run
on meta tensors, times the blocks (or, with recomputation, one block and the inputs of the others).
"""

import dataclasses
from dataclasses import dataclass

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from omnialpha.memory.architecture import VLM_7B
from omnialpha.memory.weights import NF4
from omnialpha.models.lora import add_lora
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions
from omnialpha.training.dit_config import DitConfig
from omnialpha.training.recipes import lora_single_gpu, paper_dit

BLOCKS = 60
TOKEN_PIXELS = 16  # side of the square of pixels behind one token
OPTIMIZER = {"adamw": 8.0, "adamw8bit": 2 + 2 * 4 / 256}  # bytes per parameter: two states
WORKSPACE_GB = 1.5  # CUDA context, kernels' scratch space, one dequantised layer


@dataclass(frozen=True, kw_only=True)
class Load:
    """One sample on one device.

    Attributes:
        size: side of the pictures, pixels.
        pictures: inputs and targets together.
        text_tokens: of instruction and pictures, as the VLM gives them.
        samples: computed at once.
    """

    size: int
    pictures: int = 3
    text_tokens: int = 400
    samples: int = 1

    @property
    def image_tokens(self) -> int:
        """Tokens of all pictures of a sample."""
        return self.pictures * (self.size // TOKEN_PIXELS) ** 2


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Memory of one device that holds everything, GB (10⁹ bytes).

    Attributes:
        weights: of the transformer, frozen and trained, with the copies in half precision that autocast makes.
        gradients: of what is trained.
        optimizer: its states.
        average: the moving average.
        activations: for one sample.
        encoders: VAE and VLM; nothing with a cache.
        workspace: CUDA's own.
        trained: parameters trained, millions.
    """

    weights: float
    gradients: float
    optimizer: float
    average: float
    activations: float
    encoders: float
    workspace: float
    trained: float

    @property
    def total(self) -> float:
        """All of it, GB."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "trained")


def plan(config: DitConfig, load: Load, *, cached: bool) -> MemoryPlan:
    """Memory of training the 20B base.

    Args:
        config: precision, rank, optimiser, average, recomputation.
        load: what is computed at once.
        cached: latents and embeddings come from a cache.
    """
    # Every block has as many parameters as the next, so two small models tell the large one.
    one, two = (_parameter_counts(config, blocks) for blocks in (1, 2))
    trained, frozen, linear = (a + (BLOCKS - 1) * (b - a) for a, b in zip(one, two, strict=True))
    quantized = linear if config.quantize == "nf4" else 0
    half_copies = 2 * trained if config.mixed_precision == "bf16" else 0
    weights = NF4 * quantized + 2 * (frozen - quantized) + 4 * trained + half_copies
    return MemoryPlan(
        weights=weights / 1e9,
        gradients=4 * trained / 1e9,
        optimizer=OPTIMIZER[config.optimizer] * trained / 1e9,
        average=(4 * trained if config.ema_decay else 0) / 1e9,
        activations=activation_bytes(config, load) / 1e9,
        encoders=0.0 if cached else encoder_bytes() / 1e9,
        workspace=WORKSPACE_GB,
        trained=trained / 1e6,
    )


def _parameter_counts(config: DitConfig, blocks: int) -> tuple[int, int, int]:
    """Trained parameters, frozen ones, and the frozen weights of linear layers, which quantisation takes."""
    transformer = _meta_transformer(config, blocks)
    trained = sum(p.numel() for p in transformer.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in transformer.parameters() if not p.requires_grad)
    layers = [module.weight for module in transformer.modules() if isinstance(module, nn.Linear)]
    return trained, frozen, sum(weight.numel() for weight in layers if not weight.requires_grad)


def _meta_transformer(config: DitConfig, blocks: int) -> QwenImageTransformer2DModel:
    """The base with so many blocks, in half precision, with the adapter of the settings in float32."""
    with init_empty_weights():
        transformer = QwenImageTransformer2DModel(num_layers=blocks)
        for parameter in transformer.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if config.lora_rank:
            add_lora(transformer, config.lora_rank)
    return with_layer_positions(transformer)


def encoder_bytes() -> int:
    """VAE and VLM in half precision."""
    with init_empty_weights():
        parts = [
            AutoencoderKLQwenImage(input_channels=4),
            Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**VLM_7B)),
        ]
    return sum(2 * p.numel() for part in parts for p in part.parameters())


def activation_bytes(config: DitConfig, load: Load) -> int:
    """What autograd keeps for the backward pass of the 60 blocks, in half precision.

    Attention is taken to run without its matrix of probabilities (flash attention).
    """
    transformer = _meta_transformer(config, blocks=1)
    kept = _saved_bytes(transformer, load)
    inputs = load.samples * (load.image_tokens + load.text_tokens) * transformer.inner_dim * 2
    return BLOCKS * inputs + kept if config.checkpointing else BLOCKS * kept


def _saved_bytes(transformer: QwenImageTransformer2DModel, load: Load) -> int:
    """Bytes that autograd keeps of one forward pass, without the weights themselves."""
    tokens = load.image_tokens + load.text_tokens
    own = {parameter.untyped_storage()._cdata for parameter in transformer.parameters()}
    kept: dict[int, Tensor] = {}  # by storage, which has to stay alive for its address to stay its own

    def keep(tensor: Tensor) -> Tensor:
        probabilities = tensor.ndim > 2 and tensor.shape[-2:] == (tokens, tokens)
        key = tensor.untyped_storage()._cdata
        if key not in own and not probabilities:
            kept[key] = tensor
        return tensor

    rows = load.size // TOKEN_PIXELS
    channels = transformer.config.in_channels
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        velocity(
            transformer,
            torch.empty(load.samples, load.image_tokens, channels, dtype=torch.bfloat16, device="meta"),
            None,
            torch.empty(load.samples, device="meta"),
            (torch.empty(load.samples, load.text_tokens, 3584, dtype=torch.bfloat16, device="meta"), None),
            layer_shapes((rows, rows), load.pictures, [], "paper"),
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def table() -> dict[str, dict[str, float]]:
    """The plans that `omnialpha doctor --plan train` shows: name to GB by part."""
    paper, single = paper_dit(), lora_single_gpu()
    full = dataclasses.replace(paper, lora_rank=0)
    rows = {
        f"full, {paper.size}²": plan(full, Load(size=paper.size), cached=False),
        f"LoRA 256, {paper.size}² (paper_dit)": plan(paper, Load(size=paper.size), cached=False),
        f"LoRA 256, {paper.size}², cached": plan(paper, Load(size=paper.size), cached=True),
        f"4-bit LoRA {single.lora_rank}, {single.size}², cached (lora_single_gpu)": plan(
            single, Load(size=single.size), cached=True
        ),
    }
    return {
        name: {key: round(value, 2) for key, value in {**dataclasses.asdict(row), "total": row.total}.items()}
        for name, row in rows.items()
    }
