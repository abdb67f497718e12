"""Names to pipelines: the embedded "nano", the released "omnialpha", any folder or hub id.

`load` accepts two layouts: a folder written by `OmniAlphaPipeline.save_pretrained`, and the layout of
Qwen-Image-Edit-2509 together with an adapter folder, as the authors released theirs:

    base/     model_index.json scheduler/ text_encoder/ tokenizer/ processor/ transformer/   (its RGB vae/ is not used)
    adapter/  rgba_vae/{config.json, diffusion_pytorch_model.safetensors}    lora/pytorch_lora_weights.safetensors
              profile.json (adapters trained here)

Weights that do not fit are an error: nothing is left at random values with a warning.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from safetensors import SafetensorError
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLImageProcessorPil

from omnialpha.errors import CheckpointError, InputError, OmniAlphaError, nearest
from omnialpha.few_step import attach
from omnialpha.hub import locate
from omnialpha.models.fingerprint import read_samples, short_hash
from omnialpha.models.lora import WEIGHTS_NAME, load_lora
from omnialpha.models.profile import RELEASED, Profile
from omnialpha.models.vae import load_rgba_vae
from omnialpha.pipeline import OmniAlphaPipeline

if TYPE_CHECKING:
    from omnialpha.memory.trace import Work

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PROFILE_NAME = "profile.json"
"""File of an adapter folder that says how its weights want to be used; the released adapter has none."""

COMPONENTS = {
    "scheduler": "scheduler_config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "transformer": "config.json",
}
"""Folders of every pipeline and the file that each must hold; the VAE comes from the pipeline or the adapter."""


def load(
    name: str | Path = "nano",
    *,
    adapter: str | Path | None = None,
    few_step: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    memory: str | None = None,
    work: "Work | None" = None,
) -> OmniAlphaPipeline:
    """Load a checkpoint, ready to be called.

    Args:
        name: "nano" (embedded), "omnialpha" (the released weights), a folder, or a hub id "owner/name".
        adapter: folder or hub id with ``rgba_vae/`` and/or ``lora/``; turns Qwen-Image-Edit-2509 into OmniAlpha. The
            LoRA stays attached (see `models.lora` to fuse it).
        few_step: a distilled LoRA beside it, as a file or as "owner/name/path" on the hub: steps, guidance and noise
            levels become those of its distillation (see `omnialpha.few_step`).
        device: default: CUDA where there is one, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; default: bfloat16 on CUDA, else float32.
        memory: a way to hold the weights, as "fp8_layerwise" or "nf4+model_offload" (see `memory.plans`), or "auto"
            for the fastest that fits; default: all on the device as they are.
        work: the call that is to fit, for "auto"; default: a decomposition at the checkpoint's own size.

    Returns:
        The pipeline in evaluation mode on its device.

    Raises:
        InputError: an unknown name, device, dtype or plan; with "auto", nothing fits, and the message has the numbers.
        MissingExtraError: the plan needs a package that is not installed.
        CheckpointError: weights are missing, cannot be downloaded, or do not fit.
    """
    target = choose_device(device)
    base_folder, adapter_folder = locate(name, adapter)
    if memory is not None:
        from omnialpha.memory.loading import load_as  # only for those who ask for it: it takes time to import

        folders = base_folder, adapter_folder
        return load_as(memory, folders, few_step, target, choose_dtype(dtype, target), work)
    pipeline = open_folders(base_folder, adapter_folder, choose_dtype(dtype, target))
    if few_step is not None:
        attach(pipeline, few_step)
    return pipeline.to(target)


def open_folders(
    base: Path,
    adapter: Path | None,
    dtype: torch.dtype,
    *,
    vae: Path | None = None,
    quantization: Any = None,
    transformer: QwenImageTransformer2DModel | None = None,
    text_encoder: Qwen2_5_VLForConditionalGeneration | None = None,
) -> OmniAlphaPipeline:
    """Open a pipeline folder and, when given, an adapter folder; on the CPU.

    Args:
        base: folder of the pipeline.
        adapter: folder of the adapter.
        dtype: of all weights.
        vae: folder of the RGBA VAE to take instead of theirs.
        quantization: diffusers' configuration for the transformer's weights.
        transformer: opened already, without adapters; default: the folder's.
        text_encoder: opened already; default: the folder's.

    Raises:
        CheckpointError: something is missing or does not fit; the message says what was expected where.
    """
    index = _check_base(base, has_rgba_vae=adapter is not None or vae is not None)
    vae_folder, lora = (base / "vae", None) if adapter is None else adapter_files(adapter, base)
    with _readable(base):
        pipeline = OmniAlphaPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler"),
            vae=load_rgba_vae(vae or vae_folder, dtype=dtype),
            text_encoder=open_text_encoder(base, dtype) if text_encoder is None else text_encoder,
            tokenizer=Qwen2Tokenizer.from_pretrained(base / "tokenizer"),
            transformer=open_transformer(base, dtype, quantization) if transformer is None else transformer,
            image_processor=_image_processor(base),
            profile=_profile(index, adapter),
        )
    if lora is not None:
        load_lora(pipeline.transformer, lora)
    return pipeline


def open_transformer(base: Path, dtype: torch.dtype, quantization: Any = None) -> QwenImageTransformer2DModel:
    """Open the transformer of a pipeline folder, on the CPU; arguments and errors as for `open_folders`."""
    with _readable(base):
        transformer, report = QwenImageTransformer2DModel.from_pretrained(
            base, subfolder="transformer", torch_dtype=dtype, quantization_config=quantization, output_loading_info=True
        )
    _check_report(base / "transformer", report)
    return transformer


def open_text_encoder(base: Path, dtype: torch.dtype) -> Qwen2_5_VLForConditionalGeneration:
    """Open the VLM of a pipeline folder, on the CPU; arguments and errors as for `open_folders`."""
    with _readable(base):
        text_encoder, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            base / "text_encoder", dtype=dtype, output_loading_info=True
        )
    _check_report(base / "text_encoder", report)
    return text_encoder


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Say in one line what is wrong with a folder."""
    try:
        yield
    except (OmniAlphaError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # Broken files lead the loaders to all of these, with messages of many lines.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder}: cannot be loaded ({reason}); check that its files are complete") from error


def fingerprint(pipe: OmniAlphaPipeline) -> str:
    """Return a short hash of a pipeline's weights that names them in the provenance.

    It reads up to 256 values spread over each tensor: enough to tell checkpoints apart, and as fast for 20 billion
    weights as for 20 million. What a memory plan holds elsewhere was read while it was loaded.

    Args:
        pipe: A loaded pipeline.

    Returns:
        16 hexadecimal digits.
    """
    return pipe.weights_hash or short_hash(*map(read_samples, (pipe.vae, pipe.text_encoder, pipe.transformer)))


def read_profile(base: Path, adapter: Path | None) -> Profile:
    """How a pipeline folder and an adapter folder are to be used; errors as for `open_folders`."""
    return _profile(_check_base(base, has_rgba_vae=adapter is not None), adapter)


def _profile(index: dict[str, Any], adapter: Path | None) -> Profile:
    """The adapter's own profile, else the base's, else that of the released weights."""
    if adapter is not None and (adapter / PROFILE_NAME).is_file():
        return Profile.from_dict(json.loads((adapter / PROFILE_NAME).read_text(encoding="utf-8")))
    return Profile.from_dict(index["profile"]) if "profile" in index else RELEASED


def _check_base(base: Path, *, has_rgba_vae: bool) -> dict[str, Any]:
    """The content of ``model_index.json``, after checking that everything it promises is there."""
    index_file = base / "model_index.json"
    if not index_file.is_file():
        if (base / "rgba_vae").is_dir() or (base / "lora").is_dir():
            raise CheckpointError(
                f'{base}: is an adapter; load it with its base: omnialpha.load(base, adapter="{base}")'
            )
        raise CheckpointError(
            f"{base}: no model_index.json; expected a folder written by save_pretrained or a copy of "
            "Qwen/Qwen-Image-Edit-2509"
        )
    missing = [f"{folder}/{file}" for folder, file in COMPONENTS.items() if not (base / folder / file).is_file()]
    if missing:
        raise CheckpointError(f"{base}: {', '.join(missing)} missing; download or save the folder completely")
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{index_file}: is not valid JSON ({error}); download or save it again") from error
    if not has_rgba_vae and index.get("_class_name") != OmniAlphaPipeline.__name__:
        raise CheckpointError(
            f"{base}: holds {index.get('_class_name')}, whose VAE knows no transparency; "
            'add an adapter: omnialpha.load(…, adapter="Longin-Yu/OmniAlpha")'
        )
    return index


def adapter_files(adapter: Path, base: Path) -> tuple[Path, Path | None]:
    """The folder of the RGBA VAE (the base's own where the adapter has none) and the LoRA file, if any.

    Raises:
        CheckpointError: the adapter has neither.
    """
    vae, lora = adapter / "rgba_vae", adapter / "lora" / WEIGHTS_NAME
    if not vae.is_dir() and not lora.is_file():
        raise CheckpointError(
            f"{adapter}: neither rgba_vae/ nor lora/{WEIGHTS_NAME} found; an adapter folder holds one or both"
        )
    return (vae if vae.is_dir() else base / "vae"), (lora if lora.is_file() else None)


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that left something random: the loaders only warn."""
    problems = [
        f"{kind.removesuffix('_keys')} {key}" for kind in ("missing_keys", "mismatched_keys") for key in report[kind]
    ]
    if problems:
        listed = ", ".join(str(problem) for problem in problems[:5])
        raise CheckpointError(
            f"{folder}: {len(problems)} weights do not fit its config.json ({listed}{', …' * (len(problems) > 5)}); "
            "download or save it again"
        )


def _image_processor(base: Path) -> Qwen2VLImageProcessorPil | None:
    """The VLM's picture format: ours, or that inside Qwen's processor; None (defaults) where there is neither."""
    for folder in (base / "image_processor", base / "processor"):
        if (folder / "preprocessor_config.json").is_file():
            return Qwen2VLImageProcessorPil.from_pretrained(folder)
    return None


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device that is asked for; by default CUDA where there is one, else the CPU.

    Raises:
        InputError: torch does not know it, or it is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise InputError(f'unknown device "{device}"{nearest(str(device), ("cpu", "cuda", "mps"))}') from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'device "{device}" is not available: this torch finds no CUDA device; use device="cpu"')
    return target


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype that is asked for; by default bfloat16 on CUDA, else float32.

    Raises:
        InputError: an unknown name.
    """
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f'unknown dtype "{dtype}", expected one of {tuple(DTYPES)}{nearest(dtype, DTYPES)}')
    return DTYPES[dtype]
