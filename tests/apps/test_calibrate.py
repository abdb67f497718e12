"""`omnialpha calibrate`: ratios are measured on the checkpoint and stay with it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from omnialpha.apps.calibrate import calibrate
from omnialpha.apps.cli import app
from omnialpha.checkpoints import load
from omnialpha.errors import InputError
from omnialpha.hub import EMBEDDED
from omnialpha.models.lora import save_lora
from omnialpha.models.step_cache import magnitude_ratios, residual_norms


def test_ratios_go_into_the_checkpoint_and_serve_magcache(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path / "model")
    tiny.picture().save(tmp_path / "a.png")
    before = json.loads((tmp_path / "model" / "model_index.json").read_text())
    arguments = [tmp_path / "a.png", "--model", tmp_path / "model", "--steps", "3"]
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments)])
    assert result.output == f"{tmp_path / 'model' / 'model_index.json'}\n"
    after = json.loads((tmp_path / "model" / "model_index.json").read_text())
    ratios = after["profile"].pop("mag_ratios")
    assert before["profile"].pop("mag_ratios") == []
    assert after == before

    pipe = load(tmp_path / "model")
    pipe.set_progress_bar_config(disable=True)
    by_hand = []
    for task in ("matting_auto", "decomposition_auto"):
        with residual_norms(pipe.transformer) as norms:
            pipe(task=task, images=[tmp_path / "a.png"], seed=0, num_inference_steps=3)
        by_hand.append(magnitude_ratios(norms, 3))
    assert pipe.profile.mag_ratios == pytest.approx([(a * b) ** 0.5 for a, b in zip(*by_hand, strict=True)], abs=1e-5)
    assert ratios == list(pipe.profile.mag_ratios)
    pipe(task="matting_auto", images=[tmp_path / "a.png"], step_cache="magcache")


def test_an_adapter_keeps_its_own_ratios(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path / "model")
    save_lora(tiny.with_lora(tiny.transformer()), tmp_path / "adapter" / "lora")
    tiny.picture().save(tmp_path / "a.png")
    model, adapter = str(tmp_path / "model"), str(tmp_path / "adapter")
    file = calibrate([tmp_path / "a.png"], model=model, adapter=adapter, steps=2)
    assert file == tmp_path / "adapter" / "profile.json"
    assert len(load(model, adapter=adapter).profile.mag_ratios) == 2
    assert load(model).profile.mag_ratios == ()


def test_what_cannot_be_calibrated_is_refused() -> None:
    for model, adapter in (("omnialpha", None), ("owner/name", None), ("nano", "owner/name")):
        with pytest.raises(InputError, match="copy of your own"):
            calibrate([], model=model, adapter=adapter)
    with pytest.raises(InputError, match="at least 2"):
        calibrate([], model="nano", steps=1)


def test_nano_is_calibrated() -> None:
    index = json.loads((EMBEDDED / "nano" / "model_index.json").read_text())
    assert index["profile"].get("mag_ratios"), "new weights: run omnialpha calibrate --model nano"
