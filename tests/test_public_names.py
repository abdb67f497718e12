"""The public face of the package, pinned: a change here is a change for users."""

import importlib
import inspect

import pytest

import omnialpha
from omnialpha.pipeline import OmniAlphaPipeline


def test_names() -> None:
    assert omnialpha.__all__ == [
        "Layer",
        "LayerStack",
        "OmniAlphaOutput",
        "OmniAlphaPipeline",
        "__version__",
        "errors",
        "load",
        "models",
        "tasks",
    ]
    assert dir(omnialpha) == omnialpha.__all__
    for name in omnialpha.__all__:
        assert getattr(omnialpha, name) is not None


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="lod"):
        omnialpha.lod  # noqa: B018
    with pytest.raises(AttributeError, match="vea"):
        omnialpha.models.vea  # noqa: B018


@pytest.mark.parametrize(
    "path",
    [
        "tasks.TASKS",
        "models.vae.opaque_init",
        "models.vae.load_rgba_vae",
        "models.rope.layer_indices",
        "models.lora.fuse",
        "models.profile.RELEASED",
    ],
)
def test_contract_paths_work_after_a_plain_import(path: str) -> None:
    value = omnialpha
    for name in path.split("."):
        value = getattr(value, name)
    module, _, name = path.rpartition(".")
    assert value is getattr(importlib.import_module(f"omnialpha.{module}"), name)


def test_models_lists_its_modules() -> None:
    for name in omnialpha.models.__all__:
        assert importlib.import_module(f"omnialpha.models.{name}") is getattr(omnialpha.models, name)


def test_parameters_of_load_and_call() -> None:
    load = ["name", "adapter", "few_step", "device", "dtype", "memory", "work"]
    assert list(inspect.signature(omnialpha.load).parameters) == load
    call = inspect.signature(OmniAlphaPipeline.__call__).parameters
    promised = {
        "task": None,
        "images": None,
        "text": None,
        "num_targets": None,
        "generator": None,
        "seed": None,
        "num_inference_steps": None,
        "true_cfg_scale": None,
        "guidance_interval": (0.0, 1.0),
        "step_cache": None,
        "num_images_per_prompt": 1,
        "height": None,
        "width": None,
        "output_type": "pil",
        "prompt": None,
        "negative_prompt": "",
        "latents": None,
    }
    assert {name: call[name].default for name in promised} == promised
