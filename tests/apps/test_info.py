"""The commands that tell about the package, and `convert-vae`."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from typer.testing import CliRunner

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.tasks import TASKS


def cli(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_tasks_lists_all() -> None:
    lines = cli("tasks").splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(TASKS)
    rows = json.loads(cli("tasks", "--json"))
    assert rows[6]["inputs"] == list(TASKS[rows[6]["id"]].inputs)


def test_models_tells_place_size_and_licence() -> None:
    rows = {row["name"]: row for row in json.loads(cli("models", "--json"))}
    assert "embedded" in rows["nano"]["where"]
    assert "Qwen/Qwen-Image-Edit-2509" in rows["omnialpha"]["where"]
    assert "GB" in rows["omnialpha"]["size"]
    assert all(row["licence"] for row in rows.values())
    assert all(name in cli("models") for name in rows)


def test_doctor_reports_versions_device_and_fit() -> None:
    report = json.loads(cli("doctor", "--json"))
    assert report["versions"]["torch"] == torch.__version__
    assert report["versions"]["omnialpha"] == omnialpha.__version__
    assert report["device"]["type"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert report["device"]["memory_gb"] > 0
    assert "fits" in cli("doctor")


def test_doctor_names_the_packages_an_extra_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["numpy>=1", 'no-such-package>=2; extra == "web"', 'pillow>=11; extra == "web"']
    monkeypatch.setattr("importlib.metadata.requires", lambda _: requirements)
    assert json.loads(cli("doctor", "--json"))["missing_extras"] == {"web": ["no-such-package"]}
    assert "pip install 'omnialpha[web]'" in cli("doctor")


def test_memory_decides_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("omnialpha.memory.machine.free_bytes", lambda device: 8 * 10**9)
    report = json.loads(cli("doctor", "--json"))
    assert report["fits"] == {"nano": True, "omnialpha": False}
    # 20.4 billion values in the transformer, 8.3 in the VLM, 0.1 in the VAE and 0.8 in the adapter, of 4 bytes
    assert report["weights_gb"]["omnialpha"] == pytest.approx(4 * 29.6, rel=0.01)


def test_convert_vae_makes_an_opaque_four_channel_vae(tmp_path: Path) -> None:
    rgb = tiny.rgb_vae()
    rgb.save_pretrained(tmp_path / "rgb")
    cli("convert-vae", tmp_path / "rgb", tmp_path / "rgba")
    rgba = AutoencoderKLQwenImage.from_pretrained(tmp_path / "rgba")
    picture = torch.rand(1, 4, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = rgb.decode(rgb.encode(picture[:, :3]).latent_dist.mode()).sample
        result = rgba.decode(rgba.encode(picture).latent_dist.mode()).sample
    torch.testing.assert_close(result[:, :3], expected, atol=1e-5, rtol=0)
    assert (result[:, 3] == 1).all()

    assert "--overwrite" in cli("convert-vae", tmp_path / "rgb", tmp_path / "rgba", code=1)
    cli("convert-vae", tmp_path / "rgb", tmp_path / "rgba", "--overwrite")
    assert "4" in cli("convert-vae", tmp_path / "rgba", tmp_path / "again", code=2)


def test_convert_vae_refuses_other_folders(tmp_path: Path) -> None:
    assert "no config.json" in cli("convert-vae", tmp_path, tmp_path / "x", code=1)
    (tmp_path / "config.json").write_text("{")
    assert "not a JSON object" in cli("convert-vae", tmp_path, tmp_path / "x", code=1)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    assert "UNet2DModel" in cli("convert-vae", tmp_path, tmp_path / "x", code=2)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKLQwenImage"}')
    assert "cannot be loaded" in cli("convert-vae", tmp_path, tmp_path / "x", code=1)
    assert not (tmp_path / "x").exists()
