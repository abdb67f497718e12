"""Stage 1: it starts as the RGB VAE, computes the terms it is asked for, learns, and resumes to the same bits."""

import json
import os
import shutil
import signal
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

import tiny
from corpus import make_corpus
from omnialpha.data.scenes import Corpus
from omnialpha.errors import CheckpointError, InputError, OmniAlphaError
from omnialpha.models.vae import load_rgba_vae
from omnialpha.training import losses, vae
from omnialpha.training.crops import Batch, draw_batch, draw_crops, held_out_pictures
from omnialpha.training.recipes import nano_vae, override, paper_vae
from omnialpha.training.state import load_state
from omnialpha.training.vae import train_vae, vae_terms
from omnialpha.training.vae_config import VaeConfig
from omnialpha.training.vae_models import build_models, build_vae
from omnialpha.training.vae_validation import validate
from processes import fork, fork_group, free_port

COMMON = {"batch_size": "2", "warmup": "2", "save_every": "1", "log_every": "1", "held_out": "2", "tracker": "none"}
PAPER = COMMON | {"steps": "6", "crop": "24", "micro_batch": "1", "gan_start": "3", "discriminator_dim": "8",
                  "perceptual": "gradient_proxy", "mixed_precision": "no", "validate_every": "4"}  # fmt: skip
SCRATCH = {"rgb_vae": "", "reference_kl_weight": "0", "base_dim": "8", "dim_mult": "[1, 1, 1, 1]"}
NANO = COMMON | {"crop": "16", "base_dim": "8", "dim_mult": "[1, 1, 1, 1]"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The children run on one thread: only then do the bits compare."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpora") / "c")


@pytest.fixture(scope="module")
def corpus(corpora) -> Corpus:
    return Corpus(corpora, "train")


@pytest.fixture(scope="module")
def rgb(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("rgb")
    tiny.rgb_vae().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def config(rgb) -> VaeConfig:
    """All terms of Eq. 2, the GAN from the fourth of six steps."""
    return override(paper_vae(), PAPER | {"rgb_vae": rgb})


@pytest.fixture(scope="module")
def whole(config, corpora, corpus, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train_vae(config, corpus, folder, held_out=Corpus(corpora, "test"))
    return folder


def records(folder) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_state(a: Any, b: Any, name: str = "state") -> None:
    """Bit by bit, in nested dictionaries and lists."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_same_state(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), name
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same_state(*pair, f"{name}.{i}")
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name


def test_it_starts_as_the_rgb_vae_with_opaque_alpha(config, corpus, rgb) -> None:
    models = build_models(config, torch.device("cpu"))
    batch = draw_batch(corpus, config, 0, z_dim=16)
    with torch.no_grad():
        terms, output = vae_terms(models, config, batch)
        stock = AutoencoderKLQwenImage.from_pretrained(rgb)
        posterior = stock.encode(batch.x_B4HW[:, :3].unsqueeze(2)).latent_dist
        z = posterior.mean + posterior.std * batch.noise_BCHW.unsqueeze(2)
        expected = stock.decode(z).sample.squeeze(2)
    torch.testing.assert_close(output[:, :3].clamp(-1, 1), expected, atol=1e-5, rtol=0)
    assert (output[:, 3] == 1).all()
    assert terms["reference_kl"] == 0
    # The other divergence is that of the same posterior, as diffusers computes it.
    sums = DiagonalGaussianDistribution(posterior.parameters).kl().sum()
    torch.testing.assert_close(terms["normal_kl"], sums / batch.noise_BCHW.numel(), rtol=1e-4, atol=0)


def test_every_term_is_logged_by_itself_and_the_loss_is_their_weighted_sum(config, whole) -> None:
    steps = [record for record in records(whole) if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    for record in steps:
        names = ["reconstruction", "perceptual", "reference_kl", "normal_kl"] + ["gan"] * (record["step"] > 3)
        expected = sum(getattr(config, f"{name}_weight") * record[name] for name in names)
        assert record["loss"] == pytest.approx(expected, rel=1e-5)
        assert ("gan" in record) == ("discriminator" in record) == (record["step"] > 3)
    assert steps[0]["reference_kl"] == 0 < steps[-1]["reference_kl"]
    rates = [record["lr"] / config.learning_rate for record in steps]
    assert rates == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447], rel=1e-4)


def test_the_discriminator_rests_until_its_step(config, corpus, tmp_path) -> None:
    fresh = build_models(config, torch.device("cpu")).discriminator
    assert fresh is not None
    states = []
    for steps in (3, 4):
        train_vae(override(config, {"steps": str(steps)}), corpus, tmp_path / str(steps))
        states.append(load_state(tmp_path / str(steps)))
    before, after = states
    assert before is not None
    assert after is not None
    assert_same_state(before["discriminator"], dict(fresh.state_dict()))
    assert before["optimizers"][-1]["state"] == {}
    assert not torch.equal(after["discriminator"]["0.weight"], fresh.state_dict()["0.weight"])
    assert len(after["optimizers"][-1]["state"]) == len(list(fresh.parameters()))


@pytest.mark.parametrize("term", ["reconstruction", "perceptual", "reference_kl", "normal_kl", "gan"])
def test_a_term_without_weight_is_not_computed(config, corpus, monkeypatch, term) -> None:
    changes = {f"{term}_weight": "0"}
    if term == "reconstruction":
        changes["gan_weight"] = "0"
    config = override(config, changes)
    models = build_models(config, torch.device("cpu"))
    kl = losses.gaussian_kl

    def refuse(*args: torch.Tensor) -> torch.Tensor:
        if term == "normal_kl" and len(args) == 2:  # the divergence from the reference is still wanted
            return kl(*args)
        raise AssertionError(f"{term} was computed")

    spied = {
        "reconstruction": "reconstruction_loss",
        "perceptual": "perceptual_loss",
        "reference_kl": "opaque_composites",
        "normal_kl": "gaussian_kl",
        "gan": "generator_loss",
    }
    monkeypatch.setattr(losses, spied[term], refuse)
    batch = Batch(*(values[:1] for values in draw_batch(corpus, config, 0, z_dim=16)))
    terms, _ = vae_terms(models, config, batch, models.discriminator)
    assert terms.keys() == {"reconstruction", "perceptual", "reference_kl", "normal_kl", "gan"} - {
        term,
        *(["gan"] if term == "reconstruction" else []),
    }
    parts = {"perceptual": models.distance, "reference_kl": models.reference, "gan": models.discriminator}
    assert parts.get(term) is None


def test_a_batch_in_parts_has_the_gradient_of_the_whole(config, corpus, tmp_path, monkeypatch) -> None:
    found: list[dict[str, torch.Tensor]] = []

    def keep(network: torch.nn.Module, *_: Any) -> None:
        found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})

    monkeypatch.setattr(vae, "descend", keep)
    for size in ("2", "1"):
        train_vae(override(config, {"steps": "1", "micro_batch": size}), corpus, tmp_path / size)
    whole, parts = found
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_bfloat16_computes_about_the_same_and_keeps_the_weights(config, corpus) -> None:
    models = build_models(config, torch.device("cpu"))
    batch = draw_batch(corpus, config, 0, z_dim=16)
    with torch.no_grad():
        exact, _ = vae_terms(models, config, batch)
        rough, output = vae_terms(models, override(config, {"mixed_precision": "bf16"}), batch)
    assert output.dtype == torch.float32
    assert models.vae.dtype == torch.float32
    assert rough["reconstruction"] != exact["reconstruction"]
    torch.testing.assert_close(rough["reconstruction"], exact["reconstruction"], rtol=0.05, atol=0)


def test_the_result_opens_with_the_latents_of_the_rgb_vae_and_validation_beside_it(whole, config, rgb) -> None:
    result, start = load_rgba_vae(whole / "vae"), AutoencoderKLQwenImage.from_pretrained(rgb)
    assert result.config.latents_mean == start.config.latents_mean
    state = load_state(whole)
    assert state is not None
    assert_same_state(dict(result.state_dict()), dict(state["model"]))
    assert sorted(file.name for file in (whole / "validation").iterdir()) == ["step-00000004.png", "step-00000006.png"]
    scores = [record for record in records(whole) if "validation/rgb_psnr" in record]
    assert [record["step"] for record in scores] == [4, 6]
    assert json.loads((whole / "config.json").read_text())["gan_start"] == config.gan_start


def test_alpha_is_learnt_from_opaque(config, corpora, corpus, tmp_path) -> None:
    changes = {"steps": "30", "learning_rate": "3e-3", "gan_weight": "0", "perceptual_weight": "0"}
    config = override(config, changes | {"save_every": "30", "validate_every": "30", "log_every": "10"})
    held_out = Corpus(corpora, "test")
    start, _ = validate(build_models(config, torch.device("cpu")).vae, held_out_pictures(held_out, config))
    train_vae(config, corpus, tmp_path, held_out=held_out)
    *lines, validation = records(tmp_path)
    assert lines[-1]["reconstruction"] < lines[0]["reconstruction"]
    assert validation["validation/alpha_psnr"] > start["alpha_psnr"] + 1
    assert validation["validation/rgb_psnr"] > start["rgb_psnr"] + 0.4


def test_training_from_scratch_lowers_the_loss_and_measures_latents(corpus, tmp_path) -> None:
    config = override(
        nano_vae(), NANO | {"steps": "30", "batch_size": "8", "learning_rate": "4e-3", "save_every": "30"}
    )
    x = draw_crops(corpus, config, 1000)

    def loss(model: AutoencoderKLQwenImage) -> float:
        with torch.no_grad():
            return losses.reconstruction_loss(
                model(x.unsqueeze(2)).sample.squeeze(2), x, torch.full((8, 3), 0.5)
            ).item()

    torch.manual_seed(0)
    untrained = loss(build_vae(config))
    train_vae(config, corpus, tmp_path)
    trained = AutoencoderKLQwenImage.from_pretrained(tmp_path / "vae")
    assert loss(trained) < 0.6 * untrained
    assert trained.config.latents_std != [1.0] * 16
    assert min(trained.config.latents_std) > 0


def test_what_cannot_start_is_refused(config, corpus, tmp_path) -> None:
    for changes, kind, message in (
        ({"rgb_vae": ""}, InputError, "set rgb_vae"),
        ({"rgb_vae": str(tmp_path)}, CheckpointError, r"no config\.json"),
        (
            {"perceptual": "lpips_vgg", "crop": "32", "lpips_folder": str(tmp_path)},
            CheckpointError,
            "vgg16-397923af.pth",
        ),
    ):
        with pytest.raises(kind, match=message):
            train_vae(override(config, changes), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(config, corpus, tmp_path) -> None:
    with pytest.raises(OmniAlphaError, match="lower learning_rate"):
        train_vae(override(config, {"learning_rate": "1e30", "save_every": "10"}), corpus, tmp_path)
    assert load_state(tmp_path) is None


def test_stopped_after_every_step_it_ends_at_the_same_bits(config, corpus, whole, tmp_path, monkeypatch) -> None:
    save = vae.save_state

    def save_and_stop(folder, step, state) -> None:
        save(folder, step, state)
        if step < 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(vae, "save_state", save_and_stop)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            train_vae(config, corpus, tmp_path)
    train_vae(config, corpus, tmp_path)
    assert_same_state(load_state(tmp_path), load_state(whole))
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_other_networks_is_refused(config, corpus, whole, tmp_path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for changes, name in (({"gan_weight": "0"}, "discriminator"), (SCRATCH, "model")):
        with pytest.raises(InputError, match=f"another {name}"):
            train_vae(override(config, changes), corpus, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["gan_weight"] == 1


def test_a_killed_run_resumes_to_the_same_bits(config, corpus, whole, tmp_path, monkeypatch) -> None:
    save = vae.save_state

    def save_or_die(folder, step, state) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        save(folder, step, state)

    with monkeypatch.context() as context:
        context.setattr(vae, "save_state", save_or_die)
        child = fork(lambda: train_vae(config, corpus, tmp_path))
        child.join()
    assert child.exitcode == -signal.SIGKILL
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 4
    train_vae(config, corpus, tmp_path)
    assert_same_state(load_state(tmp_path), load_state(whole))


def test_two_processes_walk_the_same_curve_as_one(config, corpus, whole, tmp_path) -> None:
    pair = fork_group(lambda: train_vae(config, corpus, tmp_path), world=2, port=free_port())
    for child in pair:
        child.join(240)
    assert [child.exitcode for child in pair] == [0, 0]
    curves = [[record["loss"] for record in records(folder) if "loss" in record] for folder in (tmp_path, whole)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
