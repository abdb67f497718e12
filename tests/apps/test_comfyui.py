"""ComfyUI's nodes: its conventions at the edge, the workflows as it would run them, its services where it is there."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.apps.comfyui import convert, host
from omnialpha.apps.comfyui.install import WORKFLOWS, install
from omnialpha.apps.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from omnialpha.errors import InputError, OutputError
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import to_array

ROOT = Path(__file__).parents[2]
SAMPLING = {"seed": 5, "steps": 2, "guidance": 0.0}


@pytest.fixture(scope="module")
def pipe() -> omnialpha.OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture(scope="module")
def model(pipe: omnialpha.OmniAlphaPipeline) -> host.Resident:
    return host.Resident(pipe)


@pytest.fixture
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The parts of ComfyUI that nodes use, by the names and signatures that it has; records what they are asked."""
    record = SimpleNamespace(placed=[], progress=[], interrupt_after=None)

    class Interrupted(BaseException):
        """As ComfyUI's, no Exception in some versions: nothing may catch it."""

    class ModelPatcher:
        def __init__(self, model: torch.nn.Module, load_device: Any, offload_device: Any) -> None:
            model.device = offload_device  # diffusers' own models would refuse this
            self.model = model

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total = total

        def update_absolute(self, value: int, total: int | None = None) -> None:
            record.progress.append((value, total or self.total))

    def check() -> None:
        if record.interrupt_after is not None and len(record.progress) >= record.interrupt_after:
            raise Interrupted

    def load_models_gpu(models: list[ModelPatcher], force_full_load: bool = False) -> None:
        record.placed += [(m.model, force_full_load) for m in models]

    def get_save_image_path(prefix: str, folder: str, width: int = 0, height: int = 0) -> tuple[Any, ...]:
        return folder, prefix, 1, "", prefix

    cpu = torch.device("cpu")
    modules: dict[str, dict[str, Any]] = {
        "comfy": {},
        "comfy.model_patcher": {"ModelPatcher": ModelPatcher},
        "comfy.model_management": {
            "get_torch_device": lambda: cpu,
            "unet_offload_device": lambda: cpu,
            "load_models_gpu": load_models_gpu,
            "throw_exception_if_processing_interrupted": check,
        },
        "comfy.utils": {"ProgressBar": ProgressBar},
        "folder_paths": {
            "get_output_directory": lambda: str(tmp_path / "output"),
            "get_temp_directory": lambda: str(tmp_path / "temp"),
            "get_save_image_path": get_save_image_path,
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    record.Interrupted = Interrupted
    return record


def picture(*sizes: tuple[int, int]) -> torch.Tensor:
    """An IMAGE of random pictures of one size (width, height), one for each."""
    arrays = [np.asarray(tiny.picture(k, size).convert("RGB"), np.float32) / 255 for k, size in enumerate(sizes)]
    return torch.from_numpy(np.stack(arrays))


def test_a_mask_is_one_minus_alpha_at_the_edge() -> None:
    cutout = tiny.picture(opaque=False)
    rgba = torch.from_numpy(to_array(cutout))[None]
    (back,) = convert.to_pictures(rgba[..., :3], 1 - rgba[..., 3])
    assert back.tobytes() == cutout.tobytes()
    (back,) = convert.to_pictures(rgba)  # a fourth channel is alpha itself
    assert back.tobytes() == cutout.tobytes()
    image, mask = convert.from_stacks([LayerStack([omnialpha.Layer(image=cutout, name="a")], size=cutout.size)])
    assert torch.equal(image, rgba[..., :3])
    assert torch.equal(mask, 1 - rgba[..., 3])


def test_load_images_empty_mask_is_an_opaque_picture() -> None:
    (opaque,) = convert.to_pictures(picture((48, 32)), torch.zeros(1, 64, 64))
    assert opaque.getchannel("A").getextrema() == (255, 255)


@pytest.mark.parametrize("shape", [(32, 48, 3), (1, 32, 48, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="an IMAGE has shape"):
        convert.to_pictures(torch.zeros(shape))


def test_selections_are_kept_and_alpha_is_turned_round() -> None:
    mask = torch.zeros(32, 48)
    mask[8:16] = 1
    image = picture((48, 32), (48, 32))
    for kind, expected in (("rough_mask", mask), ("trimap", mask), ("alpha", 1 - mask)):
        guides = convert.to_guides(mask, kind, image)
        assert len(guides) == 2  # one mask serves the whole batch
        assert np.array_equal(np.asarray(guides[1].convert("L")) / 255, expected.numpy())
    with pytest.raises(InputError, match="2 pictures and 3 masks"):
        convert.to_guides(torch.zeros(3, 32, 48), "alpha", image)


def test_guides_are_made_as_in_training() -> None:
    alpha = torch.zeros(2, 64, 64)
    alpha[:, 20:44, 20:44] = 1
    made = {
        kind: NODE_CLASS_MAPPINGS["OmniAlphaGuide"]().run(mask=1 - alpha, kind=kind, seed=1)[0]
        for kind in ("trimap", "rough_mask", "precise_mask")
    }
    assert torch.equal(made["precise_mask"], alpha)
    assert (made["trimap"] * 255).round().unique().tolist() == [0, 128, 255]
    assert torch.equal(made["rough_mask"], (made["trimap"] > 0).float())
    assert (made["rough_mask"] >= alpha).all()


def test_nodes_give_what_the_pipeline_gives(model: host.Resident, pipe: omnialpha.OmniAlphaPipeline) -> None:
    images = picture((48, 32), (48, 32))
    pictures = convert.to_pictures(images)
    mask = torch.zeros(32, 48)
    mask[8:24, 12:36] = 1
    guide = Image.fromarray((mask.numpy() * 255).astype(np.uint8))
    chosen: dict[str, Any] = {"seed": 5, "num_inference_steps": 2}
    first = images[:1]
    runs: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("Matte", {"image": images}, {"task": "matting_auto", "images": [[p] for p in pictures]}),
        ("Matte", {"image": first, "text": "a cat"}, {"task": "matting_text", "images": pictures[:1], "text": "a cat"}),
        ("Remove", {"image": first, "mask": mask, "mask_is": "rough_mask"},
         {"task": "removal_rough_mask", "images": [pictures[0], guide]}),
        ("Decompose", {"image": first, "mask": 1 - mask, "mask_is": "alpha", "num_targets": 2},
         {"task": "decomposition_alpha", "images": [pictures[0], guide], "num_targets": 2}),
        ("Complete", {"image": images, "text": "t", "task": "foreground_to_background"},
         {"task": "foreground_to_background", "images": pictures, "text": "t"}),
        ("Complete", {"image": images, "text": "t", "task": "background_to_composite"},
         {"task": "background_to_composite", "images": [[p] for p in pictures], "text": "t"}),
        ("Generate", {"text": "a cat", "width": 48, "height": 32},
         {"task": "text_to_image", "text": "a cat", "width": 48, "height": 32}),
    )  # fmt: skip
    for name, inputs, call in runs:
        image, mask_out, stacks = NODE_CLASS_MAPPINGS[f"OmniAlpha{name}"]().run(model=model, **inputs, **SAMPLING)
        expected = pipe(**call, **chosen).stacks
        layers = [to_array(layer.image) for stack in expected for layer in stack]
        assert torch.equal(image, torch.from_numpy(np.stack(layers)[..., :3])), name
        assert torch.equal(mask_out, 1 - torch.from_numpy(np.stack(layers)[..., 3])), name
        assert [stack.metadata for stack in stacks] == [stack.metadata for stack in expected]


def test_comfyui_moves_the_weights_shows_progress_and_interrupts(comfy: SimpleNamespace) -> None:
    model = host.Resident(tiny.pipeline())
    run = NODE_CLASS_MAPPINGS["OmniAlphaMatte"]().run
    run(model=model, image=picture((48, 32)), **SAMPLING)
    assert comfy.progress == [(1, 2), (2, 2)]
    ((parts, whole),) = comfy.placed
    assert whole
    weights = {id(weight) for weight in parts.parameters()}
    components = (model.pipe.text_encoder, model.pipe.transformer, model.pipe.vae)
    assert weights == {id(weight) for part in components for weight in part.parameters()}

    comfy.interrupt_after = 3  # after the first step of the next run
    with pytest.raises(comfy.Interrupted):
        run(model=model, image=picture((48, 32)), **SAMPLING)
    assert len(comfy.progress) == 3


def test_the_loader_leaves_the_device_to_comfyui(
    comfy: SimpleNamespace, pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **options: Any) -> omnialpha.OmniAlphaPipeline:
        calls.append((name, options))
        return pipe

    monkeypatch.setattr(omnialpha, "load", load, raising=False)
    NODE_CLASS_MAPPINGS["OmniAlphaLoad"]().run(name="nano", dtype="default", adapter=" ")
    assert calls == [("nano", {"adapter": None, "dtype": None, "device": "cpu"})]


def test_layers_are_saved_once_under_each_name_and_shown(comfy: SimpleNamespace, tmp_path: Path) -> None:
    back, front = (omnialpha.Layer(image=tiny.picture(k, opaque=k == 0), name=str(k)) for k in (0, 1))
    stack = LayerStack([back, front], size=back.image.size)
    save = NODE_CLASS_MAPPINGS["OmniAlphaSave"]().run
    for format in ("psd", "png", "psd"):
        shown = save(layers=[stack, stack], filename_prefix="parts", format=format)
    names = sorted(path.name for path in (tmp_path / "output").iterdir())
    assert names == [f"parts_{k:05}_{'.psd' * (k not in (3, 4))}" for k in range(1, 7)]
    assert LayerStack.open(tmp_path / "output" / names[4]).flatten().tobytes() == stack.flatten().tobytes()
    files = [tmp_path / "temp" / entry["filename"] for entry in shown["ui"]["images"]]
    assert [Image.open(file).tobytes() for file in files] == [stack.flatten().tobytes()] * 2


def test_outside_comfyui_saving_says_what_to_do() -> None:
    stack = LayerStack([omnialpha.Layer(image=tiny.picture(), name="a")], size=(48, 32))
    with pytest.raises(OutputError, match=r"stack\.save"):
        NODE_CLASS_MAPPINGS["OmniAlphaSave"]().run(layers=[stack], filename_prefix="x", format="psd")


def build_comfyui() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_comfyui", ROOT / "docs" / "build_comfyui.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.json")), ids=lambda file: file.stem)
def test_workflows_run_and_their_links_fit(
    file: Path, pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = json.loads(file.read_text())
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link, source, slot, target, place, kind in graph["links"]:
        assert nodes[source]["outputs"][slot]["type"] == nodes[target]["inputs"][place]["type"] == kind
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][place]["link"] == link
    for node in graph["nodes"]:
        if node["type"] in NODE_CLASS_MAPPINGS:
            declared = NODE_CLASS_MAPPINGS[node["type"]]
            assert [entry["type"] for entry in node["outputs"]] == list(declared.RETURN_TYPES)
    monkeypatch.setattr(omnialpha, "load", lambda name, **_: pipe, raising=False)
    # Random weights see no object: let there be one.
    monkeypatch.setattr(convert, "guide_from_alpha", lambda mask, kind, seed: torch.eye(*mask.shape[1:])[None])
    _, shown = build_comfyui().run(graph, "tiny")
    assert any(node["type"] == "OmniAlphaSave" and shown[node["id"]] for node in graph["nodes"])


def test_every_node_is_in_a_workflow_and_has_a_name() -> None:
    used = {node["type"] for file in WORKFLOWS.glob("*.json") for node in json.loads(file.read_text())["nodes"]}
    assert set(NODE_CLASS_MAPPINGS) <= used
    assert set(NODE_CLASS_MAPPINGS) == set(NODE_DISPLAY_NAME_MAPPINGS)


def test_the_command_makes_a_folder_that_comfyui_imports(tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    for _ in range(2):  # a second time replaces it
        result = CliRunner().invoke(app, ["comfyui", str(tmp_path)])
        assert result.exit_code == 0, result.output
    folder = Path(result.stdout.strip())
    assert folder.parent == tmp_path / "custom_nodes"
    assert {path.name for path in (folder / "example_workflows").iterdir()} == {p.name for p in WORKFLOWS.iterdir()}
    spec = importlib.util.spec_from_file_location("custom_nodes_comfyui_omnialpha", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no folder custom_nodes"):
        install(tmp_path)
    theirs = tmp_path / "custom_nodes" / "comfyui_omnialpha"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text("precious")
    with pytest.raises(InputError, match="rename it first"):
        install(tmp_path)
    assert (theirs / "__init__.py").read_text() == "precious"


def test_a_starting_comfyui_does_not_wait_for_diffusers() -> None:
    code = "import sys, omnialpha.apps.comfyui.nodes; print('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
