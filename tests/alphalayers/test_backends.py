"""Lines of text become backends, and wrong ones are explained."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from omnialpha.alphalayers import backends
from omnialpha.alphalayers.weights import identity
from omnialpha.errors import CheckpointError, InputError


def test_options_are_typed_and_belong_to_the_key(tmp_path: Path) -> None:
    line = 'endpoint:http://h/v1#qwen3-vl:8b?parameters={"max_tokens": 300}&workers=3&timeout=5'
    captioner = backends.captioner(line, replies=tmp_path)
    assert (captioner.name, captioner.workers) == (line, 3)
    assert captioner.settings["model"] == "qwen3-vl:8b"
    assert captioner.settings["parameters"] == {"temperature": 0, "max_tokens": 300}
    slower = backends.captioner(line.replace("timeout=5", "timeout=50"), replies=tmp_path)
    assert slower.settings == captioner.settings  # how long we wait changes no answer
    other = backends.captioner(line.replace("300", "301"), replies=tmp_path)
    assert other.settings != captioner.settings


@pytest.mark.parametrize(
    ("role", "line", "words"),
    [
        ("captioner", "ofline", 'did you mean "offline"'),
        ("captioner", "gpt", "known: offline, endpoint, transformers"),
        ("captioner", "offline:folder", "expected offline; write it so"),
        ("captioner", "endpoint:", "expected endpoint:http://host:8000/v1#MODEL"),
        ("captioner", "endpoint:http://h/v1", "names no model"),
        ("captioner", "endpoint:http://h/v1#m?budgt=3", 'did you mean "budget"'),
        ("captioner", "endpoint:http://h/v1#m?workers=true", 'takes int, received "true"'),
        ("captioner", "endpoint:http://h/v1#m?timeout=soon", 'takes float, received "soon"'),
        ("captioner", "offline?seed=1", "offline has none"),
        ("editor", "opencv:telea", "known: offline, diffusers, omnialpha"),
        ("editor", "offline", "expected offline:BACKDROPS"),
        ("editor", "omnialpha:nan", 'did you mean "nano"'),
        ("remover", "opencv:tela", 'did you mean "telea"'),
    ],
)
def test_wrong_lines_are_explained(role: str, line: str, words: str, tmp_path: Path) -> None:
    make = {"captioner": partial(backends.captioner, replies=tmp_path)}.get(role) or getattr(backends, role)
    with pytest.raises(InputError, match=re.escape(words)):
        make(line)


@pytest.mark.parametrize("role", ["editor", "remover"])
def test_missing_weights_are_refused_at_once(role: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        getattr(backends, role)(f"diffusers:{tmp_path}/none")


def test_identity_is_of_the_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.bytes(200_000)
    for name in ("a", "b", "c"):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "w.safetensors").write_bytes(weights)
    (tmp_path / "c" / "unet" / "w.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert identity(tmp_path / "a") == identity(tmp_path / "b") != identity(tmp_path / "c")
    one = [tmp_path / "a" / "unet" / "w.safetensors"]
    assert identity(tmp_path / "a", one) == identity(tmp_path / "a")
    (tmp_path / "a" / "more").write_text("x")
    assert identity(tmp_path / "a", one) == identity(tmp_path / "b") != identity(tmp_path / "a")
    snapshot = tmp_path / "models--o--m" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    assert identity(snapshot) == "0123abc"
