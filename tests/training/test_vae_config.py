"""The settings of stage 1: those of the paper, and what is refused before the first step."""

import pytest

from omnialpha.errors import InputError
from omnialpha.training.recipes import nano_vae, override, paper_vae


def test_the_papers_settings() -> None:
    config = paper_vae()  # §4.1
    assert (config.steps, config.batch_size, config.learning_rate) == (32_000, 16, 1.5e-5)
    assert (config.optimizer, config.schedule, config.warmup / config.steps) == ("adamw", "cosine", 0.05)
    assert config.gan_start == 4000
    assert min(getattr(config, name) for name in vars(config) if name.endswith("_weight")) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "did you mean"),
        ({"perceptual": "lpips"}, "lpips_vgg.*gradient_proxy"),
        ({"steps": "0"}, "1 or more"),
        ({"gan_weight": "-1"}, "off"),
        ({"crop": "20"}, "multiple of 8"),
        ({"zooms": "[0.5]"}, "zooms"),
        ({"reconstruction_weight": "0", "normal_kl_weight": "0"}, "switched off"),
        ({"reconstruction_weight": "0", "gan_weight": "1"}, "gan_weight=0"),
        ({"crop": "16", "gan_weight": "1"}, "24 pixels"),
        ({"crop": "24", "perceptual_weight": "1", "perceptual": "lpips_alex"}, "32 pixels"),
    ],
)
def test_impossible_settings_are_refused_with_a_remedy(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        override(nano_vae(), changes)
