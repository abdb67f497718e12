"""What training starts from: an adapter on every named layer, a released adapter taken over, options that exclude."""

from __future__ import annotations

import pytest
import torch

import omnialpha
import tiny
from omnialpha.errors import InputError, MissingExtraError
from omnialpha.models.lora import ATTENTION_TARGETS, MLP_TARGETS, add_lora
from omnialpha.models.profile import PAPER, RELEASED
from omnialpha.models.transformer import layer_shapes, velocity
from omnialpha.training.optim import make_optimizers
from omnialpha.training.prepare import Engine, make_trainable, open_base, share_tokens, start_lora, start_pipeline
from stage2 import lora_config, nano_config


def adapted(transformer) -> set[str]:
    return {
        name.removesuffix(".lora_A.default")
        for name, _ in transformer.named_modules()
        if name.endswith("lora_A.default")
    }


def test_the_adapter_is_on_all_attention_and_mlp_layers_of_both_streams() -> None:
    transformer = tiny.transformer()
    linear = {name for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)}
    expected = {
        name for name in linear if name.startswith("transformer_blocks") and (".attn." in name or "_mlp." in name)
    }
    start_lora(transformer, rank=2)
    assert adapted(transformer) == expected
    assert len(expected) == len(ATTENTION_TARGETS + MLP_TARGETS) * 2  # blocks


def test_a_target_that_matches_nothing_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ff\.net\.0\.proj"):  # what the authors' script lists
        add_lora(tiny.transformer(), 2, targets=[*ATTENTION_TARGETS, "ff.net.0.proj"])


def test_a_released_adapter_is_taken_over(tmp_path) -> None:
    base, adapter = tiny.write_base(tmp_path / "base"), tiny.write_adapter(tmp_path / "adapter")
    config = lora_config()
    pipeline = open_base(str(base), config, adapter=str(adapter), vae=None)
    assert pipeline.profile == RELEASED
    released = omnialpha.load(base, adapter=adapter).transformer
    make_trainable(pipeline, config)
    assert len(adapted(pipeline.transformer)) > len(adapted(released))
    x, prompt = torch.randn(1, 4, 64), (torch.randn(1, 3, tiny.HIDDEN), None)
    arguments = (x, None, torch.tensor(0.5), prompt, layer_shapes((2, 2), 1, [], "released"))
    with torch.no_grad():
        torch.testing.assert_close(velocity(pipeline.transformer, *arguments), velocity(released, *arguments))
    with pytest.raises(InputError, match="lora_rank=2"):
        make_trainable(open_base(str(base), config, adapter=str(adapter), vae=None), lora_config(lora_rank="3"))


def test_a_plain_base_with_a_vae_is_trained_as_the_paper_writes(tmp_path) -> None:
    base = tiny.write_base(tmp_path / "base")
    tiny.rgba_vae(seed=1).save_pretrained(tmp_path / "vae")
    pipeline = open_base(str(base), lora_config(), adapter=None, vae=tmp_path / "vae")
    assert pipeline.profile == PAPER
    assert pipeline.vae.config.input_channels == 4


def test_only_what_starts_from_scratch_starts_without_a_model(tmp_path) -> None:
    with pytest.raises(InputError, match="--model"):
        start_pipeline(lora_config(), tmp_path, model=None, adapter=None, vae=None)
    with pytest.raises(InputError, match="--vae"):
        start_pipeline(nano_config(), tmp_path, model=None, adapter=None, vae=None)


def test_eight_bits_ask_for_their_package(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"omnialpha\[train\]"):
        make_optimizers({"a": torch.nn.Parameter(torch.zeros(2))}, lora_config(optimizer="adamw8bit"))
    with pytest.raises(MissingExtraError, match=r"omnialpha\[train\]"):
        open_base("nano", lora_config(quantize="nf4"), adapter=None, vae=None)


def test_tokens_are_shared_on_gpus_by_a_number_that_divides_the_heads(monkeypatch) -> None:
    engine = Engine(None, 0, 1, 3)
    with pytest.raises(InputError, match="on GPUs only; set context_parallel=1"):
        share_tokens(tiny.transformer(), engine)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    with pytest.raises(InputError, match="2 attention heads"):
        share_tokens(tiny.transformer(), engine)


def test_savers_reach_the_model() -> None:
    pipeline = tiny.pipeline()
    make_trainable(pipeline, lora_config(checkpointing="true", compile="true"))
    assert pipeline.transformer.is_gradient_checkpointing
    compiled = [block._compiled_call_impl is not None for block in pipeline.transformer.transformer_blocks]
    assert compiled == [True, True]
