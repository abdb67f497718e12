"""From a checkpoint to the model that is trained: adapter or all parameters, quantised base, engine, shared tokens."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from diffusers import BitsAndBytesConfig, ContextParallelConfig, QwenImageTransformer2DModel
from diffusers.training_utils import cast_training_params
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from omnialpha.checkpoints import open_folders
from omnialpha.data.scenes import Corpus
from omnialpha.errors import InputError
from omnialpha.extras import require
from omnialpha.hub import locate
from omnialpha.models.lora import add_lora, unload
from omnialpha.models.profile import PAPER, RELEASED, Profile
from omnialpha.models.vae import load_rgba_vae
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.dit_config import DitConfig, JointConfig
from omnialpha.training.nano import build_pipeline, nano_profile, train_tokenizer

ADAPTER = "default"


def start_pipeline(
    config: DitConfig, data: Path, *, model: str | None, adapter: str | None, vae: Path | None
) -> OmniAlphaPipeline:
    """What training starts from: a checkpoint, or random weights around a trained VAE (`JointConfig` without `model`).

    Args:
        config: of the run.
        data: prepared corpora, whose words make the tokenizer of a model from scratch.
        model: name, folder or hub id of the checkpoint.
        adapter: see :func:`open_base`.
        vae: see :func:`open_base`.

    Raises:
        InputError: neither a checkpoint nor, for a model from scratch, a VAE and corpora are given.
    """
    if not isinstance(config, JointConfig):
        if model is None:
            raise InputError('this recipe starts from a checkpoint; pass --model, e.g. "Qwen/Qwen-Image-Edit-2509".')
        return open_base(model, config, adapter=adapter, vae=vae)
    if model is not None:
        pipeline = open_base(model, config, adapter=adapter, vae=vae)
        return use_profile(pipeline, nano_profile(config))
    if vae is None or adapter is not None:
        raise InputError("training from scratch takes --vae, the result of `omnialpha train vae`, and no --adapter.")
    torch.manual_seed(config.seed)
    return build_pipeline(config, load_rgba_vae(vae), train_tokenizer(Corpus(data, "train").words()))


def use_profile(pipeline: OmniAlphaPipeline, profile: Profile) -> OmniAlphaPipeline:
    """Let a pipeline be used, and saved, in another way."""
    pipeline.profile = profile
    pipeline.register_to_config(profile=profile.to_dict())
    return pipeline


def open_base(name: str, config: DitConfig, *, adapter: str | None, vae: Path | None) -> OmniAlphaPipeline:
    """Load the checkpoint that training starts from, on the CPU.

    Args:
        name: what `omnialpha.load` takes.
        config: decides dtype and quantisation.
        adapter: folder or hub id whose RGBA VAE is taken and whose LoRA, if any, is trained on.
        vae: folder of the RGBA VAE, in the place of theirs.

    Returns:
        The pipeline. A base that says nothing about its use (Qwen-Image-Edit) is trained as the paper writes, unless an
        adapter is trained on, which has its own way.

    Raises:
        InputError: an unknown name.
        CheckpointError: weights are missing or do not fit.
        MissingExtraError: a quantised base without bitsandbytes.
    """
    quantization: Any = None
    if config.quantize == "nf4":
        require("bitsandbytes", "train")
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    # Frozen weights are held in the precision of the computation, trained ones in float32.
    half = config.mixed_precision == "bf16" and config.lora_rank > 0
    base, adapter_folder = locate(name, adapter)
    dtype = torch.bfloat16 if half else torch.float32
    pipeline = open_folders(base, adapter_folder, dtype, vae=vae, quantization=quantization)
    if pipeline.profile == RELEASED and adapter is None:
        use_profile(pipeline, PAPER)
    return pipeline


def make_trainable(pipeline: OmniAlphaPipeline, config: DitConfig) -> None:
    """Freeze everything but what the settings train, attach the adapter, set up the memory and speed savers.

    Raises:
        InputError: the adapter to go on from has another rank.
    """
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
        part.requires_grad_(False)
    if config.lora_rank:
        start_lora(pipeline.transformer, config.lora_rank)
        cast_training_params(pipeline.transformer, torch.float32)
    else:
        pipeline.transformer.requires_grad_(True)
    pipeline.text_encoder.requires_grad_(config.train_text_encoder)
    if config.checkpointing:
        pipeline.transformer.enable_gradient_checkpointing()
    if config.compile:
        pipeline.transformer.compile_repeated_blocks()


def start_lora(transformer: QwenImageTransformer2DModel, rank: int) -> None:
    """Attach a new adapter to all attention and MLP layers; take over the weights of one that is attached already.

    The released adapter has no MLP layers: these start at no effect.

    Raises:
        InputError: the attached adapter has another rank.
    """
    attached = getattr(transformer, "peft_config", {}).get(ADAPTER)
    if attached is None:
        add_lora(transformer, rank)
        return
    if attached.r != rank:
        raise InputError(f"the adapter to go on from has rank {attached.r}; set lora_rank={attached.r}, not {rank}.")
    weights = {
        key: value.clone() for key, value in get_peft_model_state_dict(transformer, adapter_name=ADAPTER).items()
    }
    unload(transformer)
    add_lora(transformer, rank)
    report = set_peft_model_state_dict(transformer, weights, adapter_name=ADAPTER)
    assert not report.unexpected_keys, report.unexpected_keys


@dataclass(frozen=True)
class Engine:
    """Accelerate, and which share of each batch this process computes.

    Attributes:
        accelerator: devices, precision, processes.
        rank: number of this process among those that have samples of their own.
        world: how many these are; processes that share the tokens of one sample count as one.
        tokens: how many processes share the tokens of one sample.
    """

    accelerator: Accelerator
    rank: int
    world: int
    tokens: int

    def unsynced(self, model: torch.nn.Module, last: bool) -> Any:
        """Context of a backward pass: gradients travel between processes only after the last part of a batch."""
        return nullcontext() if last else self.accelerator.no_sync(model)


def make_engine(config: DitConfig) -> Engine:
    """Start accelerate as `accelerate launch` configured it; one process without it.

    Raises:
        InputError: the configuration and the settings exclude each other.
    """
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # the last block's text path leads nowhere
    precision = config.mixed_precision
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
    kind, processes, tokens = accelerator.distributed_type, accelerator.num_processes, config.context_parallel
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError(f"{kind.value} is not supported; configure accelerate for FSDP2 instead (runs/fsdp2.yaml).")
    if kind == DistributedType.FSDP:
        if accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise InputError("FSDP version 1 is not supported; set fsdp_version: 2 (runs/fsdp2.yaml).")
        if config.train_text_encoder or config.optimizer == "muon" or tokens > 1:
            raise InputError(
                "FSDP2 trains the transformer alone, with adamw, whole samples per process; "
                "set train_text_encoder=false, optimizer=adamw, context_parallel=1."
            )
    if processes % tokens:
        raise InputError(f"context_parallel={tokens} does not divide the {processes} processes of accelerate launch.")
    return Engine(accelerator, accelerator.process_index // tokens, processes // tokens, tokens)


def share_tokens(transformer: QwenImageTransformer2DModel, engine: Engine) -> None:
    """Let groups of processes share the tokens of each sample (Ulysses attention of diffusers).

    Raises:
        InputError: diffusers cannot do it for this model on these devices.
    """
    if engine.tokens == 1:
        return
    if not torch.accelerator.is_available():
        raise InputError("diffusers offers context parallelism on GPUs only; set context_parallel=1.")
    heads = transformer.config.num_attention_heads
    if heads % engine.tokens:
        raise InputError(f"context_parallel={engine.tokens} does not divide the {heads} attention heads.")
    device = engine.accelerator.device.type
    mesh = torch.distributed.init_device_mesh(
        device, (engine.world, 1, engine.tokens), mesh_dim_names=("data", "ring", "ulysses")
    )
    try:
        config = ContextParallelConfig(ulysses_degree=engine.tokens, mesh=mesh["ring", "ulysses"])
        transformer.enable_parallelism(config=config)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"diffusers offers no context parallelism here ({reason}); set context_parallel=1.") from error
