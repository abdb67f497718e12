"""Carry a plan out, by diffusers' own means wherever there are any."""

import logging
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import BitsAndBytesConfig, GGUFQuantizationConfig, QwenImageTransformer2DModel, TorchAoConfig
from diffusers.hooks import apply_group_offloading
from torch import nn

from omnialpha.errors import CheckpointError, InputError
from omnialpha.extras import require
from omnialpha.memory.architecture import Architecture
from omnialpha.memory.forecast import choose
from omnialpha.memory.machine import measure
from omnialpha.memory.plans import OFFLOADS, STORAGES, Plan, candidates, check_device, parse
from omnialpha.memory.trace import Work
from omnialpha.pipeline import OmniAlphaPipeline

logger = logging.getLogger(__name__)

EXTRA = "quant"
LAYERWISE = {"bf16_layerwise": torch.bfloat16, "fp8_layerwise": torch.float8_e4m3fn}


def decide(
    memory: str, describe: Callable[[], Architecture], work: Work, device: torch.device, dtype: torch.dtype
) -> Plan:
    """The plan that a user asks for.

    Args:
        memory: a plan, or "auto" for the fastest that fits.
        describe: gives the checkpoint's configurations, which only "auto" needs.
        work: the call that is to fit.
        device: where.
        dtype: in which the models compute, unless the plan says another.

    Raises:
        InputError: the plan is unknown or not for this device; with "auto", nothing fits.
    """
    if device.type not in OFFLOADS[""][1]:
        raise InputError(f"memory plans are for {' and '.join(OFFLOADS[''][1])}, not for {device.type}; leave it out")
    if memory != "auto":
        plan = parse(memory)
        check_device(plan, device.type)
        return plan
    machine = measure(device, (dtype, torch.bfloat16))
    possible = [plan for plan in candidates(device.type) if installed(plan)]
    found = choose(describe(), work, machine, dtype=dtype, plans=possible)
    logger.info("memory plan %s: %.1f GB of %.1f GB", found.plan.name, found.peak / 1e9, found.free / 1e9)
    return found.plan


def installed(plan: Plan) -> bool:
    """Whether the optional package that a plan needs is there."""
    module = STORAGES[plan.storage].module
    return module is None or find_spec(module) is not None


def quantization(plan: Plan, dtype: torch.dtype) -> Any:
    """The configuration for opening the transformer as a plan stores it; None where it is opened plainly.

    Raises:
        MissingExtraError: a package is missing.
    """
    module = STORAGES[plan.storage].module
    if module is not None:
        require(module, EXTRA)
    match plan.storage:
        case "int8":
            return TorchAoConfig(require("torchao.quantization", EXTRA).Int8WeightOnlyConfig())
        case "fp8":
            return TorchAoConfig(require("torchao.quantization", EXTRA).Float8WeightOnlyConfig())
        case "nf4":
            return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return None


def open_gguf(file: Path, base: Path, dtype: torch.dtype) -> QwenImageTransformer2DModel:
    """Open a GGUF file of the transformer; its matrices stay as they are and are unpacked when they are used.

    Args:
        file: the file, with diffusers' names of the weights.
        base: folder of the pipeline, whose ``transformer/config.json`` says the shapes.
        dtype: in which it computes.

    Raises:
        MissingExtraError: gguf is missing.
        CheckpointError: the file is missing or does not fit.
    """
    require("gguf", EXTRA)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; expected a GGUF file of the transformer")
    config = GGUFQuantizationConfig(compute_dtype=dtype)
    try:
        return QwenImageTransformer2DModel.from_single_file(
            str(file), quantization_config=config, config=str(base), subfolder="transformer", torch_dtype=dtype
        )
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file}: cannot be loaded ({reason}); it must be made of this transformer") from error


def cast_layers(transformer: QwenImageTransformer2DModel, plan: Plan) -> QwenImageTransformer2DModel:
    """Turn on layerwise casting where the plan asks for it, in place; adapters are attached already."""
    if plan.storage in LAYERWISE:
        storage = LAYERWISE[plan.storage]
        transformer.enable_layerwise_casting(storage_dtype=storage, compute_dtype=transformer.dtype)
    return transformer


def put_in_place(pipe: OmniAlphaPipeline, plan: Plan, device: torch.device) -> OmniAlphaPipeline:
    """Place the models of a pipeline that is in main memory.

    Args:
        pipe: changed; its transformer is stored as the plan says, by `cast_layers` or from its opening.
        plan: any but "free_text_encoder".
        device: where the models are to run.

    Returns:
        The same pipeline.
    """
    match plan.offload:
        case "model_offload":
            pipe.enable_model_cpu_offload(device=device)
        case "group_offload":
            _offload_groups(pipe, device)
        case _:
            pipe.to(device)
    return pipe


def _offload_groups(pipe: OmniAlphaPipeline, device: torch.device) -> None:
    """Blocks of the transformer and layers of the text encoder come in turn; the VAE, the smallest, stays."""
    where: dict[str, Any] = {"onload_device": device, "offload_device": torch.device("cpu")}
    if device.type == "cpu":  # the main memory is what is short
        pipe.offload_folder = tempfile.TemporaryDirectory(prefix="omnialpha-offload-")  # lives as long as the pipeline
        folder = Path(pipe.offload_folder.name)
        of_transformer = where | {"offload_to_disk_path": str(folder / "transformer")}
        of_encoder = where | {"offload_to_disk_path": str(folder / "text_encoder")}
    else:
        of_transformer = of_encoder = where | {"use_stream": True, "low_cpu_mem_usage": True}
    apply_group_offloading(pipe.transformer, offload_type="block_level", num_blocks_per_group=1, **of_transformer)
    apply_group_offloading(pipe.text_encoder, offload_type="leaf_level", **of_encoder)
    pipe.vae.to(device)


def take_turns(
    pipe: OmniAlphaPipeline,
    open_text_encoder: Callable[[], nn.Module],
    open_transformer: Callable[[], nn.Module],
    device: torch.device,
) -> OmniAlphaPipeline:
    """Let text encoder and transformer take turns: when one begins to work, the other's weights are freed.

    Args:
        pipe: changed; which weights the two have now does not matter.
        open_text_encoder: reads it from its files again.
        open_transformer: the same for the transformer, with its adapters.
        device: where the models are to run.

    Returns:
        The same pipeline.
    """
    release(pipe.transformer)
    add_hook_to_module(pipe.vae.to(device), _Stay(device))
    add_hook_to_module(pipe.text_encoder, _Turn(pipe.transformer, open_text_encoder, device))
    add_hook_to_module(pipe.transformer, _Turn(pipe.text_encoder, open_transformer, device))
    return pipe


class _Stay(ModelHook):
    """Tells diffusers where a pipeline works: the weights of its first model may be nowhere."""

    def __init__(self, device: torch.device) -> None:
        self.execution_device = device


class _Turn(_Stay):
    """Gives a module its weights before it works, in the place of another module's.

    Args:
        other: the other module.
        open_again: reads the module from its files.
        device: where it runs.
    """

    def __init__(self, other: nn.Module, open_again: Callable[[], nn.Module], device: torch.device) -> None:
        super().__init__(device)
        self._other = other
        self._open_again = open_again

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Run before the module's own forward pass, whose arguments stay as they are."""
        if any(parameter.is_meta for parameter in module.parameters()):
            release(self._other)
            fresh = dict(self._open_again().to(self.execution_device).named_modules())
            for name, part in module.named_modules():
                part._parameters = fresh[name]._parameters
        return args, kwargs


def release(module: nn.Module) -> None:
    """Free a module's weights; shapes and dtypes stay."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                shape = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
                part._parameters[name] = nn.Parameter(shape, requires_grad=False)
