"""Every term of Eq. 2 against a formula written another way: NumPy composites, torch.distributions, diffusers."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.distributions import Normal, kl_divergence

from omnialpha.data.scenes import composite_over
from omnialpha.errors import CheckpointError, InputError
from omnialpha.evaluation.lpips import LPIPS
from omnialpha.training import losses


def rgba(seed: int, batch: int = 2) -> torch.Tensor:
    """Straight RGBA in [-1, 1]."""
    return torch.rand(batch, 4, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def moments(seed: int) -> torch.Tensor:
    return torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(seed))


def over(x: torch.Tensor, colour: np.ndarray | list[float]) -> np.ndarray:
    """Composites (B, H, W, 3) in [0, 1] over one colour, by the function that composes scenes."""
    pictures = (x.numpy().transpose(0, 2, 3, 1) + 1) / 2
    behind = np.broadcast_to(np.array([*colour, 1.0]), pictures[0].shape)
    return np.stack([composite_over(picture, behind)[..., :3] for picture in pictures])


def test_reconstruction_is_the_mean_difference_of_three_composites_and_alpha() -> None:
    x, output = rgba(0), rgba(1)
    colour = torch.tensor([[0.2, 0.9, 0.4], [0.7, 0.1, 0.5]])
    expected = [np.abs((x - output)[:, 3].numpy() / 2).mean()]
    for backgrounds in ([[0] * 3] * 2, [[1] * 3] * 2, colour.tolist()):
        pairs = [over(x[i : i + 1], c) - over(output[i : i + 1], c) for i, c in enumerate(backgrounds)]
        expected.append((np.abs(pairs) + 2 * np.square(pairs)).mean())
    assert losses.reconstruction_loss(output, x, colour).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_reconstruction_ignores_colour_under_alpha_zero_and_sees_the_rest() -> None:
    x, other, colour = rgba(0), rgba(0), torch.rand(2, 3)
    x[:, 3, :16] = other[:, 3, :16] = -1  # alpha 0 in the upper half
    other[:, :3, :16] = rgba(1)[:, :3, :16]
    assert losses.reconstruction_loss(other, x, colour) == 0
    assert torch.equal(losses.premultiplied(other), losses.premultiplied(x))
    for channel in (0, 3):
        changed = x.clone()
        changed[:, channel, 16:] += 0.1
        assert losses.reconstruction_loss(changed, x, colour) > 0


def test_kl_equals_torch_distributions_and_diffusers() -> None:
    q, r = moments(0), moments(1)
    (mean, logvar), (reference_mean, reference_logvar) = q.chunk(2, 1), r.chunk(2, 1)
    normal = Normal(mean, (logvar / 2).exp())
    expected = kl_divergence(normal, Normal(reference_mean, (reference_logvar / 2).exp())).mean()
    torch.testing.assert_close(losses.gaussian_kl(q, r), expected)
    torch.testing.assert_close(losses.gaussian_kl(q), kl_divergence(normal, Normal(0.0, 1.0)).mean())
    sums = DiagonalGaussianDistribution(q).kl(DiagonalGaussianDistribution(r))
    torch.testing.assert_close(losses.gaussian_kl(q, r), sums.sum() / mean.numel())
    assert losses.gaussian_kl(q, q) == 0


def test_latents_are_sampled_as_diffusers_samples_them() -> None:
    q = moments(0) * 20  # beyond the range to which the log-variance is kept
    noise = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(3))
    expected = DiagonalGaussianDistribution(q).sample(generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(losses.sample_latents(q, noise), expected)


def test_opaque_composites_are_the_pictures_over_black_and_over_white() -> None:
    x = rgba(0)
    composites = losses.opaque_composites(x)
    assert (composites[:, 3] == 1).all()
    for half, value in ((composites[:2], 0), (composites[2:], 1)):
        shown = (half[:, :3].numpy().transpose(0, 2, 3, 1) + 1) / 2
        np.testing.assert_allclose(shown, over(x, [value] * 3), atol=1e-6)


def test_perceptual_term_compares_over_black_and_over_white() -> None:
    x, output = rgba(0), rgba(1)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def distance(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append((pred, target))
        return torch.tensor([1.0, 2.0, 3.0, 6.0])

    assert losses.perceptual_loss(distance, output, x) == 3
    for given, picture in zip(seen[0], (output, x), strict=True):
        expected = np.concatenate([over(picture, [0] * 3), over(picture, [1] * 3)])
        np.testing.assert_allclose(given.numpy().transpose(0, 2, 3, 1), expected, atol=1e-6)


def test_gradient_proxy_is_the_difference_of_gradients_at_three_scales() -> None:
    p, g = (rgba(seed)[:, :3] / 2 + 0.5 for seed in (0, 1))
    expected = np.zeros(2)
    a, b = p.numpy(), g.numpy()
    for _ in range(3):
        for axis in (2, 3):
            expected += np.abs(np.diff(a, axis=axis) - np.diff(b, axis=axis)).mean(axis=(1, 2, 3)) / 6
        a, b = (x.reshape(2, 3, x.shape[2] // 2, 2, -1, 2).mean(axis=(3, 5)) for x in (a, b))
    np.testing.assert_allclose(losses.gradient_proxy(p, g), expected, rtol=1e-5)
    assert losses.gradient_proxy(p, p + 0.25).max() < 1e-6  # brightness alone is not its business


def test_hinge_losses() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-0.25, -4.0])
    assert losses.discriminator_loss(real, fake) == (0.5 / 2 + 0.75 / 2) / 2
    assert losses.generator_loss(fake) == 4.25 / 2


def test_adaptive_weight_makes_both_gradients_of_the_last_layer_alike() -> None:
    torch.manual_seed(0)
    last, critic, x = torch.nn.Linear(6, 4), torch.nn.Linear(4, 1), torch.randn(5, 6)

    def gradient(name: str) -> torch.Tensor:
        last.zero_grad()
        (last(x).square().mean() if name == "reconstruction" else -critic(last(x)).mean() * 30).backward()
        assert last.weight.grad is not None
        return last.weight.grad.clone()

    output = last(x)
    weight = losses.adaptive_weight(output.square().mean(), -critic(output).mean() * 30, last.weight)
    ratio = gradient("reconstruction").norm() / gradient("gan").norm()
    torch.testing.assert_close(weight, ratio, rtol=1e-3, atol=0)
    assert not weight.requires_grad
    # Where the GAN pulls at nothing, its weight stays finite.
    assert losses.adaptive_weight(output.square().mean(), (0 * output).sum(), last.weight) <= losses.ADAPTIVE_MAX


def lpips_folder(folder) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {}
    for index, (channels, inputs, kernel) in shapes.items():
        weight = torch.randn(channels, inputs, kernel, kernel, generator=generator)
        state[f"features.{index}.weight"] = weight * (2 / (inputs * kernel**2)) ** 0.5
        state[f"features.{index}.bias"] = torch.zeros(channels)
    heads = {
        f"lin{i}.model.1.weight": torch.rand(1, shape[0], 1, 1, generator=generator)
        for i, shape in enumerate(shapes.values())
    }
    for name, content in zip(losses.LPIPS_FILES["lpips_alex"], (state, heads), strict=True):
        torch.save(content, folder / name)


def test_lpips_is_the_metric_of_the_evaluation_and_pictures_can_be_fitted_to_it(tmp_path) -> None:
    lpips_folder(tmp_path)
    distance = losses.perceptual_distance("lpips_alex", tmp_path)
    metric = LPIPS(*(tmp_path / name for name in losses.LPIPS_FILES["lpips_alex"]))
    p, g = (rgba(seed)[:, :3] / 2 + 0.5 for seed in (0, 1))
    arrays = [x.double().permute(0, 2, 3, 1).numpy() for x in (p, g)]
    together = distance(p.requires_grad_(), g)
    for i in range(2):
        assert together[i].item() == pytest.approx(metric(arrays[0][i], arrays[1][i]), rel=1e-4)
    (gradient,) = torch.autograd.grad(together.sum(), p)
    with torch.no_grad():
        assert distance(p - 0.02 * gradient / gradient.abs().max(), g).sum() < together.sum()
    # Flat pictures leave whole layers at rest: the gradient must not become infinite there.
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(distance(flat, g[:1]).sum(), flat)
    assert gradient.isfinite().all()


def test_lpips_without_its_weights_says_which_file_is_missing(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"vgg16-397923af\.pth.*download it once"):
        losses.perceptual_distance("lpips_vgg", tmp_path)
    with pytest.raises(InputError, match="gradient_proxy"):
        losses.perceptual_distance("lpips", tmp_path)
    assert losses.perceptual_distance("gradient_proxy", "") is losses.gradient_proxy
