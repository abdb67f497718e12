"""Small stage-2 runs for the tests: settings, data and a start of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.config import override
from omnialpha.training.data import open_data
from omnialpha.training.dit import train_dit
from omnialpha.training.dit_config import DitConfig
from omnialpha.training.recipes import nano_joint, paper_dit
from omnialpha.training.state import load_state

SMALL = {
    "steps": "4", "batch_size": "4", "size": "32", "warmup": "0", "mixed_precision": "no", "checkpointing": "false",
    "validate_every": "0", "tracker": "none", "save_every": "1", "log_every": "1",
}  # fmt: skip
NANO = {"layers": "1", "heads": "2", "vlm_dim": "64", "vlm_layers": "1", "vlm_area": "1024", "batch_tokens": "200"}


def lora_config(**changes: str) -> DitConfig:
    """A LoRA of rank 2 with an average, large steps."""
    return override(paper_dit(), SMALL | {"lora_rank": "2", "ema_decay": "0.5", "learning_rate": "1e-2"} | changes)


def nano_config(**changes: str) -> Any:
    """Everything from scratch."""
    return override(nano_joint(), SMALL | NANO | changes)


def train(corpora: Path, folder: Path, config: DitConfig, pipeline: OmniAlphaPipeline | None = None) -> Any:
    """A run from the tiny pipeline."""
    pipeline = pipeline or tiny.pipeline()
    data = open_data(corpora, config, grid=16, held_out=None, skip_broken=False)
    return train_dit(config, pipeline, data, folder, origin={"base": "tiny", "data": "corpus"})


def saved(folder: Path) -> dict[str, Any]:
    """The newest checkpoint, which is there."""
    state = load_state(folder)
    assert state is not None
    return state
