"""`omnialpha.load(…, memory=…)`: open a checkpoint so that it fits."""

from functools import cache, partial
from pathlib import Path

import torch
from diffusers import QwenImageTransformer2DModel

from omnialpha import few_step as distilled
from omnialpha.checkpoints import (
    adapter_files,
    open_folders,
    open_text_encoder,
    open_transformer,
    read_profile,
)
from omnialpha.hub import CHECKPOINTS, folder_or_fetch, locate, locate_file
from omnialpha.memory.apply import cast_layers, decide, open_gguf, put_in_place, quantization, release, take_turns
from omnialpha.memory.architecture import Architecture
from omnialpha.memory.forecast import computes_in
from omnialpha.memory.plans import Plan
from omnialpha.memory.trace import Work
from omnialpha.memory.weights import pipeline_weights
from omnialpha.models.fingerprint import read_samples, short_hash
from omnialpha.models.lora import load_lora
from omnialpha.pipeline import OmniAlphaPipeline

CONFIGURATIONS = ("model_index.json", "*/*.json", "profile.json", "lora/*")
"""Files that say the shapes; an adapter's LoRA is small, and its header says its rank."""


def describe(base: Path, adapter: Path | None) -> Architecture:
    """What the configurations in a checkpoint's folders say; errors as for `checkpoints.open_folders`."""
    return Architecture.of_folders(base, adapter, read_profile(base, adapter))


def find(name: str, adapter: str | None = None) -> Architecture:
    """What the configurations of a checkpoint say, wherever it is; its weights are not needed, nor fetched.

    Args:
        name: "nano", "omnialpha", a folder, or a hub id.
        adapter: folder or hub id of an adapter.

    Raises:
        InputError: an unknown name.
        CheckpointError: the configurations are not there and cannot be downloaded.
    """
    known = CHECKPOINTS.get(name)
    if known is not None and known.base is not None and adapter is None:
        return Architecture.released()
    base = locate(name)[0] if known is not None else folder_or_fetch(name, CONFIGURATIONS)
    return describe(base, None if adapter is None else folder_or_fetch(adapter, CONFIGURATIONS))


@cache
def weight_bytes(name: str, dtype: torch.dtype) -> int:
    """Bytes of a named checkpoint's weights, held plainly; errors as for `find`."""
    architecture = find(name)
    pipes = architecture.on_meta(dtype, more=0), architecture.on_meta(dtype, more=1)
    return sum(pipeline_weights(architecture, *pipes).bytes(Plan(), dtype))


def load_as(
    memory: str,
    folders: tuple[Path, Path | None],
    few_step: str | Path | None,
    device: torch.device,
    dtype: torch.dtype,
    work: Work | None,
) -> OmniAlphaPipeline:
    """Open a checkpoint and hold its weights as asked for.

    Args:
        memory: a plan or "auto".
        folders: of the pipeline and of the adapter.
        few_step: a distilled LoRA beside it.
        device: where the models are to run.
        dtype: in which they compute, unless the plan says another.
        work: the call that is to fit, for "auto".

    Raises:
        InputError: the plan is unknown or not for this device; with "auto", nothing fits.
        CheckpointError: weights are missing or do not fit.
        MissingExtraError: the plan needs a package that is not installed.
    """
    base, adapter = folders
    plan = decide(memory, partial(describe, base, adapter), work or Work(), device, dtype)
    dtype = computes_in(plan, dtype)
    config = quantization(plan, dtype)
    turns = plan.offload == "free_text_encoder"

    def open_bare() -> QwenImageTransformer2DModel:
        return open_transformer(base, dtype, config) if plan.file is None else open_gguf(plan.file, base, dtype)

    def open_again() -> QwenImageTransformer2DModel:
        transformer = open_bare()
        lora = None if adapter is None else adapter_files(adapter, base)[1]
        if lora is not None:
            load_lora(transformer, lora)
        if few_step is not None:
            load_lora(transformer, locate_file(few_step), name=distilled.ADAPTER_NAME)
        return cast_layers(transformer, plan)

    text_encoder = open_text_encoder(base, dtype)
    encoder_samples = read_samples(text_encoder)
    if turns:
        release(text_encoder)  # never both at once
    pipe = open_folders(base, adapter, dtype, transformer=open_bare(), text_encoder=text_encoder)
    if few_step is not None:
        distilled.attach(pipe, few_step)
    pipe.memory_plan = plan.name
    pipe.weights_hash = short_hash(read_samples(pipe.vae), encoder_samples, read_samples(pipe.transformer))
    cast_layers(pipe.transformer, plan)
    if turns:
        return take_turns(pipe, partial(open_text_encoder, base, dtype), open_again, device)
    return put_in_place(pipe, plan, device)
