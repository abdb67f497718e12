"""The patch discriminator: the patch it sees, whom it judges, and that it learns."""

import pytest
import torch
from torch import nn

from omnialpha.training.discriminator import PatchDiscriminator
from omnialpha.training.losses import discriminator_loss
from omnialpha.training.vae_config import SMALLEST_PATCH


@pytest.fixture
def discriminator() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(dim=8)


def test_one_verdict_is_about_a_patch_of_70_pixels(discriminator) -> None:
    for index, module in enumerate(discriminator):
        if isinstance(module, nn.GroupNorm):  # it also sees how bright the whole picture is
            discriminator[index] = nn.Identity()
    x = torch.randn(1, 4, 128, 128, requires_grad=True)
    logits = discriminator(x)
    assert logits.shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], x)
    for axis in (2, 3):
        touched = gradient.abs().amax(dim=tuple({0, 1, 2, 3} - {axis})).nonzero().flatten()
        assert touched.max() - touched.min() + 1 == 70


def test_the_smallest_picture_has_one_verdict(discriminator) -> None:
    assert discriminator(torch.zeros(1, 4, SMALLEST_PATCH, SMALLEST_PATCH)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        discriminator(torch.zeros(1, 4, SMALLEST_PATCH - 8, SMALLEST_PATCH - 8))


def test_a_verdict_does_not_depend_on_the_other_pictures(discriminator) -> None:
    pictures = torch.randn(3, 4, 32, 32)
    torch.testing.assert_close(discriminator(pictures)[:1], discriminator(pictures[:1]))


def test_it_learns_to_tell_sharp_from_blurred(discriminator) -> None:
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def pairs() -> tuple[torch.Tensor, torch.Tensor]:
        real = torch.randn(4, 4, 32, 32, generator=generator)
        return discriminator(real), discriminator(nn.functional.avg_pool2d(real, 5, 1, 2))

    for _ in range(15):
        optimizer.zero_grad()
        discriminator_loss(*pairs()).backward()
        optimizer.step()
    real, fake = pairs()
    assert real.min() > fake.max()
