"""Recipes are complete and the paper's; single settings change by name, and what is wrong is said."""

import dataclasses

import pytest

from omnialpha.errors import InputError
from omnialpha.training.config import override, parse_changes
from omnialpha.training.recipes import DIT_RECIPES, lora_single_gpu, nano_joint, paper_dit


def test_paper_dit_is_the_papers() -> None:
    """Section 4.1 and the facts of the authors' software."""
    config = paper_dit()
    assert (config.lora_rank, config.batch_size, config.learning_rate, config.steps) == (256, 8, 5e-5, 100_000)
    assert (config.optimizer, config.schedule, config.warmup) == ("adamw", "constant", 0)
    assert (config.prompt_dropout, config.timesteps, config.sigma_shift) == (0.15, "uniform", 1.0)


def test_every_setting_is_documented() -> None:
    for recipe in DIT_RECIPES.values():
        config = recipe()
        text = "".join(kind.__doc__ or "" for kind in type(config).__mro__)
        missing = [f.name for f in dataclasses.fields(config) if f"{f.name}:" not in text]
        assert not missing


def test_override_keeps_the_kind_of_each_value() -> None:
    changed = override(nano_joint(), {"steps": "7", "clip": "2", "compile": "true", "tracker": "wandb"})
    assert (changed.steps, changed.clip, changed.compile, changed.tracker) == (7, 2.0, True, "wandb")
    assert isinstance(changed.clip, float)
    assert (
        dataclasses.replace(changed, steps=nano_joint().steps, clip=1.0, compile=False, tracker="none") == nano_joint()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": "1"}, 'did you mean "learning_rate"'),
        ({"steps": "1.5"}, "expected int"),
        ({"steps": "many"}, "expected int"),
        ({"compile": "1"}, "expected bool"),
        ({"clip": "true"}, "expected float"),
        ({"optimizer": "adamv"}, 'did you mean "adamw"'),
        ({"batch_size": "0"}, "1 or more"),
        ({"workers": "-1"}, "0 or more"),
        ({"train_text_encoder": "true"}, "lora_rank=0"),
        ({"lora_rank": "0"}, "quantize=no"),
        ({"optimizer": "muon"}, "optimizer=adamw"),
    ],
)
def test_wrong_settings_are_refused_with_a_remedy(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        override(lora_single_gpu(), changes)


def test_changes_are_key_and_value() -> None:
    assert parse_changes(["steps=1", "rgb_vae=/a=b"]) == {"steps": "1", "rgb_vae": "/a=b"}
    with pytest.raises(InputError, match="key=value"):
        parse_changes(["steps"])
