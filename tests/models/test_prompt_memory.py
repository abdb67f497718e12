"""Prompts without pictures are embedded once, as long as the VLM is the same."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2VLImageProcessorPil

import tiny
from omnialpha.models.profile import Profile
from omnialpha.models.prompt import PromptEncoder
from omnialpha.models.prompt_memory import CAPACITY, PromptMemory

CPU = torch.device("cpu")


@pytest.fixture
def encoder() -> PromptEncoder:
    return PromptEncoder(tiny.text_encoder(), tiny.tokenizer(), Qwen2VLImageProcessorPil(patch_size=16), tiny.PROFILE)


@pytest.fixture
def forwards(encoder: PromptEncoder) -> list[None]:
    """One entry for each time the VLM ran."""
    calls: list[None] = []
    encoder.text_encoder.register_forward_hook(lambda *_: calls.append(None))
    return calls


@torch.no_grad()
def test_equals_what_the_encoder_gives_and_is_made_once(encoder: PromptEncoder, forwards: list[None]) -> None:
    memory = PromptMemory()
    expected, _ = encoder.embed(["blurry"], [[]])
    forwards.clear()
    for _ in range(3):
        assert torch.equal(memory.embed(encoder, "blurry", CPU), expected)
    assert len(forwards) == 1
    assert not torch.equal(memory.embed(encoder, "sharp!", CPU), expected)


def in_place(encoder: PromptEncoder) -> None:
    encoder.text_encoder.model.language_model.norm.weight.mul_(2)


def past_the_version_counter(encoder: PromptEncoder) -> None:
    encoder.text_encoder.model.language_model.layers[0].mlp.up_proj.weight.data += 0.1


def replaced(encoder: PromptEncoder) -> None:
    encoder.text_encoder.load_state_dict(tiny.text_encoder(seed=1).state_dict(), assign=True)


def other_dtype(encoder: PromptEncoder) -> None:
    encoder.text_encoder.double()


def other_template(encoder: PromptEncoder) -> None:
    encoder.profile = Profile(name="x", prompt_template="<|im_start|>user\n{}, please<|im_end|>\n")


@pytest.mark.parametrize("change", [in_place, past_the_version_counter, replaced, other_dtype, other_template])
@torch.no_grad()
def test_another_vlm_makes_it_forget(encoder: PromptEncoder, change: Callable[[PromptEncoder], None]) -> None:
    memory = PromptMemory()
    before = memory.embed(encoder, "blurry", CPU)
    change(encoder)
    after = memory.embed(encoder, "blurry", CPU)
    assert torch.equal(after, encoder.embed(["blurry"], [[]])[0])
    assert after.shape != before.shape or not torch.equal(after.float(), before)


@torch.no_grad()
def test_nothing_is_remembered_while_an_adapter_is_attached(encoder: PromptEncoder, forwards: list[None]) -> None:
    """Its strength is in no weight."""
    encoder.text_encoder.peft_config = {"default": SimpleNamespace()}
    memory = PromptMemory()
    memory.embed(encoder, "blurry", CPU)
    memory.embed(encoder, "blurry", CPU)
    assert len(forwards) == 2


@torch.no_grad()
def test_the_prompt_asked_for_longest_ago_goes_first(encoder: PromptEncoder, forwards: list[None]) -> None:
    memory = PromptMemory()
    for k in range(CAPACITY):
        memory.embed(encoder, str(k), CPU)
    memory.embed(encoder, "0", CPU)
    memory.embed(encoder, "one more", CPU)
    forwards.clear()
    memory.embed(encoder, "0", CPU)
    assert len(forwards) == 0
    memory.embed(encoder, "1", CPU)
    assert len(forwards) == 1
