"""What a stage-2 run leaves behind: an adapter folder that `omnialpha.load(base, adapter=…)` opens, or a pipeline.

adapter/  lora/pytorch_lora_weights.safetensors   diffusers' LoRA format, also read by stock diffusers and ComfyUI
rgba_vae/                               the VAE that it was trained with
profile.json                            how the weights want to be used
config.json  README.md                  the settings; the model card
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator, init_empty_weights
from diffusers import QwenImageTransformer2DModel
from peft.utils import get_peft_model_state_dict

from omnialpha.checkpoints import PROFILE_NAME
from omnialpha.imaging.files import atomic_folder, atomic_write
from omnialpha.models.lora import save_lora
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.dit_config import DitConfig
from omnialpha.training.progress import LOG
from omnialpha.training.state import gather

CONFIG = "config.json"


def write_config(config: DitConfig, folder: Path) -> None:
    """Save the resolved settings as `config.json`; whoever resumes with other ones replaces them."""
    with atomic_write(folder / CONFIG, overwrite=True) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")


def write_result(
    pipeline: OmniAlphaPipeline,
    config: DitConfig,
    folder: Path,
    origin: Mapping[str, str],
    accelerator: Accelerator,
) -> None:
    """Write `folder / "adapter"` or `folder / "pipeline"`; all processes call this, the main one writes.

    Args:
        pipeline: with the weights to save.
        config: of the run.
        folder: of the run.
        origin: "base" and "data" of the run, for the model card.
        accelerator: tells the main process.
    """
    transformer = pipeline.transformer
    if config.lora_rank:
        weights = gather(get_peft_model_state_dict(transformer))
        if accelerator.is_main_process:
            with atomic_folder(folder / "adapter") as temporary:
                save_lora(transformer, temporary / "lora", weights=weights)
                pipeline.vae.save_pretrained(temporary / "rgba_vae")
                (temporary / PROFILE_NAME).write_text(json.dumps(pipeline.profile.to_dict(), indent=1) + "\n")
                write_config(config, temporary)
                (temporary / "README.md").write_text(model_card(config, folder, origin))
        return
    # A copy, because shards cannot be saved by save_pretrained.
    weights = gather(transformer.state_dict())
    if accelerator.is_main_process:
        with init_empty_weights():
            whole = QwenImageTransformer2DModel.from_config(transformer.config)
        whole.load_state_dict(weights, assign=True)
        with atomic_folder(folder / "pipeline") as temporary:
            _with_transformer(pipeline, whole).save_pretrained(temporary)
            (temporary / "README.md").write_text(model_card(config, folder, origin))


def _with_transformer(pipeline: OmniAlphaPipeline, transformer: QwenImageTransformer2DModel) -> OmniAlphaPipeline:
    return OmniAlphaPipeline(**{**pipeline.components, "transformer": transformer}, profile=pipeline.profile)


def model_card(config: DitConfig, folder: Path, origin: Mapping[str, str]) -> str:
    """The model card of a result: what it is, how to load it, how it was trained, how it scored."""
    kind = "adapter" if config.lora_rank else "pipeline"
    settings = dataclasses.asdict(config)
    records = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    last: dict[str, float] = next((record for record in reversed(records) if "loss" in record), {})
    scored: dict[str, float] = next(
        (r for r in reversed(records) if any(name.startswith("validation/") for name in r)), {}
    )
    call = f'"{origin["base"]}", adapter="{folder.name}/adapter"' if config.lora_rank else f'"{folder.name}/pipeline"'
    lines = [
        "---",
        f"library_name: {'diffusers' if config.lora_rank else 'omnialpha'}",
        *([f"base_model: {origin['base']}"] if origin["base"].count("/") == 1 else []),
        "tags: [omnialpha, rgba, layers" + (", lora]" if config.lora_rank else "]"),
        "---",
        "",
        f"# {folder.name}",
        "",
        f"An OmniAlpha {kind} for transparent images, trained from `{origin['base']}` on `{origin['data']}`.",
        "",
        "```python",
        "import omnialpha",
        "",
        f"pipe = omnialpha.load({call})",
        "```",
        "",
        "## Training",
        "",
        "| setting | value |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in settings.items()],
        "",
        f"After {last.get('step', 0)} steps: {_figures(last)}.",
        "",
        "## Held-out examples",
        "",
        f"After {scored['step']} steps, without guidance: {_figures(scored)}." if scored else "Not validated.",
        "",
        "## Limits",
        "",
        "The licences of the base and of the training data apply. Beyond the scores above nothing was measured:",
        "look at the pictures in the `validation/` folder of the run, and score it on your own with `omnialpha eval`.",
        "",
    ]
    return "\n".join(lines)


def _figures(record: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "step")
