"""Methods to compare with: what they return, what they refuse."""

import sys

import numpy as np
import pytest
from PIL import Image

from omnialpha.errors import InputError, MissingExtraError
from omnialpha.evaluation.baselines import baseline
from omnialpha.imaging.rgba import to_array, to_pil

SIDE = 32


def scene():
    """A red disk with a soft rim over blue, its alpha, and a trimap whose band is wider than the rim."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    distance = np.hypot(x, y)
    alpha = np.clip((11 - distance) / 4 + 0.5, 0, 1)
    red, blue = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.2, 0.9])
    composite = alpha[..., None] * red + (1 - alpha[..., None]) * blue
    trimap = np.where(distance < 7, 255, np.where(distance > 15, 0, 128)).astype(np.uint8)
    return to_pil(composite), alpha, to_pil(trimap)


def run(name, task, *images):
    [layer] = baseline(name)(task=task, images=list(images), text=None, num_targets=1, seed=0)
    assert (layer.mode, layer.size) == ("RGBA", images[0].size)
    return to_array(layer)


def test_constant_keeps_the_colours():
    composite, _, trimap = scene()
    for name, value in {"constant": 0.5, "constant:0.2": 0.2}.items():
        for task, images in {"matting_auto": [composite], "matting_trimap": [composite, trimap]}.items():
            layer = run(name, task, *images)
            np.testing.assert_allclose(layer[..., 3], value, atol=0.5 / 255)
            np.testing.assert_array_equal(layer[..., :3], to_array(composite)[..., :3])
        assert baseline(name).settings == {"alpha": value}


@pytest.mark.parametrize("name", ["closed_form", "knn"])
def test_trimap_methods_find_the_matte_and_its_colours(name):
    pytest.importorskip("pymatting")
    composite, alpha, trimap = scene()
    layer = run(name, "matting_trimap", composite, trimap)
    assert np.abs(layer[..., 3] - alpha).mean() < 0.02
    assert layer[..., 3][to_array(trimap)[..., 0] == 0].max() < 0.01
    visible = alpha > 0.2
    assert np.abs(layer[..., :3] - [0.9, 0.1, 0.1])[visible].mean() < 0.03


@pytest.mark.parametrize(("values", "expected"), [((0, 128), 0), ((128, 255), 1), ((128, 128), 0.5)])
def test_a_trimap_that_knows_one_side_only_has_a_constant_solution(values, expected):
    pytest.importorskip("pymatting")
    composite, _, _ = scene()
    trimap = np.full((SIDE, SIDE), values[0], np.uint8)
    trimap[:, SIDE // 2 :] = values[1]
    np.testing.assert_allclose(
        run("closed_form", "matting_trimap", composite, to_pil(trimap))[..., 3], expected, atol=0.01
    )


def test_a_trimap_without_a_band_is_the_matte():
    pytest.importorskip("pymatting")
    composite, alpha, _ = scene()
    binary = np.where(alpha > 0.5, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(
        run("knn", "matting_trimap", composite, to_pil(binary))[..., 3], binary / np.float32(255)
    )


@pytest.mark.parametrize("name", ["telea", "navier_stokes"])
def test_inpainting_fills_the_masked_area_and_nothing_else(name):
    pytest.importorskip("cv2")
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    background = np.dstack([x, y, 1 - x])
    composite = background.copy()
    composite[10:20, 12:22] = 0
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:20, 12:22] = 255
    for task in ("removal_precise_mask", "removal_trimap"):
        layer = run(name, task, to_pil(composite), to_pil(mask))
        assert layer[..., 3].min() == 1
        np.testing.assert_allclose(layer[mask == 0][:, :3], background[mask == 0], atol=0.5 / 255 + 1e-6)
        assert np.abs(layer[..., :3] - background)[mask == 255].mean() < 0.06
    half = (mask // 255 * 128).astype(np.uint8)  # a trimap's unknown band is removed too
    np.testing.assert_array_equal(run(name, "removal_trimap", to_pil(composite), to_pil(half)), layer)


def network(path, channels=3, side=8, outputs=2):
    """A network of one 1×1 convolution that answers with twice the red channel, then with a decoy."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    names = [f"d{number}" for number in range(outputs)]
    weights = [
        helper.make_tensor(
            f"w{k}", kinds.FLOAT, (1, channels, 1, 1), [2.0 if (k, c) == (0, 0) else 0.0 for c in range(channels)]
        )
        for k in range(outputs)
    ]
    nodes = [helper.make_node("Conv", ["picture", f"w{k}"], [names[k]]) for k in range(outputs)]
    picture = helper.make_tensor_value_info("picture", kinds.FLOAT, (1, channels, side, side))
    results = [helper.make_tensor_value_info(name, kinds.FLOAT, (1, 1, side, side)) for name in names]
    graph = helper.make_graph(nodes, "toy", [picture], results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_stretches_the_first_output_to_the_whole_range(tmp_path):
    pytest.importorskip("onnxruntime")
    path = network(tmp_path / "u2net.onnx")
    red = np.zeros((16, 24, 3))
    red[:, 12:, 0] = 0.6
    red[..., 1] = 0.8  # the brightest value, which becomes 1
    method = baseline(f"onnx:{path}")
    [layer] = method(task="matting_auto", images=[to_pil(red)])
    alpha = to_array(layer)[..., 3]
    np.testing.assert_allclose(alpha[:, :9], 0, atol=0.05)
    np.testing.assert_allclose(alpha[:, 15:], 1, atol=0.05)
    assert (method.settings["file"], method.settings["size"]) == ("u2net.onnx", [8, 8])
    assert len(method.settings["sha256"]) == 64


def test_onnx_prepares_pictures_as_u2net_does(tmp_path, monkeypatch):
    """Checked against the numbers written out: divided by the brightest value, ImageNet's mean and deviation."""
    runtime = pytest.importorskip("onnxruntime")
    path = network(tmp_path / "u2net.onnx")
    fed = []
    original = runtime.InferenceSession.run

    def spy(self, names, feed, *rest):
        fed.append(feed["picture"])
        return original(self, names, feed, *rest)

    monkeypatch.setattr(runtime.InferenceSession, "run", spy)
    picture = np.full((8, 8, 3), (204, 102, 51), np.uint8)
    baseline(f"onnx:{path}")(task="matting_auto", images=[to_pil(picture)])
    expected = [(1.0 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.25 - 0.406) / 0.225]
    np.testing.assert_allclose(fed[0][0, :, 4, 4], expected, rtol=1e-5)
    assert fed[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("closedform", 'unknown method "closedform"; did you mean "closed_form"'),
        ("constant:2", "constant takes an alpha from 0 to 1"),
        ("constant:x", "constant takes an alpha from 0 to 1"),
        ("telea:5", 'telea takes no argument, received "5"'),
        ("onnx:absent.onnx", "absent.onnx: no such file; write onnx:FILE"),
    ],
)
def test_wrong_names_say_what_is_understood(name, message):
    with pytest.raises(InputError, match=message):
        baseline(name)


def test_files_that_are_no_such_network_are_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"broken\.onnx: is no model that onnxruntime can read"):
        baseline(f"onnx:{tmp_path / 'broken.onnx'}")
    with pytest.raises(InputError, match=r"takes \[1, 4, 8, 8\], not one RGB picture"):
        baseline(f"onnx:{network(tmp_path / 'four.onnx', channels=4)}")


def test_a_task_that_a_method_cannot_do_is_refused():
    composite, _, trimap = scene()
    with pytest.raises(InputError, match="constant does matting_auto, .*, not removal_auto; choose with --task"):
        baseline("constant")(task="removal_auto", images=[composite])
    with pytest.raises(InputError, match="needs pictures of one size, received 32×32, 16×16"):
        baseline("constant")(task="matting_trimap", images=[composite, trimap.resize((16, 16))])
    with pytest.raises(InputError, match=r"matting_auto gives exactly 1 layer"):
        baseline("constant")(task="matting_auto", images=[composite], num_targets=2)


@pytest.mark.parametrize(("name", "module"), [("closed_form", "pymatting"), ("telea", "cv2")])
def test_missing_packages_are_named(name, module, monkeypatch):
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "omnialpha\[baselines\]"'):
        baseline(name)


def test_pictures_of_any_mode_are_taken():
    [layer] = baseline("constant")(task="matting_auto", images=[Image.new("L", (3, 2), 100)])
    assert layer.getpixel((0, 0)) == (100, 100, 100, 128)
