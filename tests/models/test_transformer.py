"""The velocity call on diffusers' transformer."""

import pytest
import torch
from diffusers import QwenImageTransformer2DModel

import tiny
from omnialpha.errors import CheckpointError
from omnialpha.models.rope import MSRoPEBiL
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions


def test_velocity_equals_the_stock_model_with_stock_positions() -> None:
    """Released order at a real resolution: only the global z shift differs, which changes nothing."""
    stock, ours = tiny.transformer(), with_layer_positions(tiny.transformer())
    generator = torch.Generator().manual_seed(0)
    targets, inputs = torch.randn(2, 2 * 96, 64, generator=generator), torch.randn(2, 96, 64, generator=generator)
    embeds = torch.randn(2, 7, tiny.HIDDEN, generator=generator)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    sigma = torch.tensor([0.3, 0.9])
    with torch.no_grad():
        expected = stock(
            hidden_states=torch.cat([targets, inputs], dim=1),
            timestep=sigma,
            encoder_hidden_states=embeds,
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, 12, 8)] * 3] * 2,
        ).sample[:, : 2 * 96]
        shapes = layer_shapes((12, 8), 2, [(12, 8)], "released")
        received = velocity(ours, targets, inputs, sigma, (embeds, mask), shapes)
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=0)


def test_positions_are_installed_once_and_weights_keep_their_names() -> None:
    model = tiny.transformer()
    names = set(model.state_dict())
    with_layer_positions(model)
    first = model.pos_embed
    assert isinstance(first, MSRoPEBiL)
    assert with_layer_positions(model).pos_embed is first
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("option", ["zero_cond_t", "use_layer3d_rope", "use_additional_t_cond"])
def test_other_variants_of_the_transformer_are_refused(option: str) -> None:
    model = QwenImageTransformer2DModel(
        num_layers=1, num_attention_heads=1, attention_head_dim=16, axes_dims_rope=(4, 6, 6), **{option: True}
    )
    with pytest.raises(CheckpointError, match=option):
        with_layer_positions(model)
