"""The command line, run on a tiny random pipeline: files, exit codes, messages, provenance."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import omnialpha
import tiny
from omnialpha.apps.cli import app
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import read_dpi, read_metadata
from omnialpha.tasks import TASKS
from processes import fork


@pytest.fixture(scope="module")
def pipe() -> omnialpha.OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture
def loads(pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Answer `omnialpha.load` with the tiny pipeline; the list records how it was called."""
    calls: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> omnialpha.OmniAlphaPipeline:
        calls.append({"name": name, **options})
        return pipe

    monkeypatch.setattr(omnialpha, "load", load, raising=False)
    return calls


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two pictures and a mask."""
    monkeypatch.chdir(tmp_path)
    tiny.picture(1).save("a.png")
    tiny.picture(2, (32, 48)).convert("RGB").save("b.jpg")
    tiny.mask().save("mask.png")
    return tmp_path


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def good(*arguments: str) -> Result:
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


def failing(code: int, *arguments: str) -> str:
    """Run, expect an exit code and no traceback, and return what stderr says."""
    result = cli(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.stderr


def test_cutout_with_provenance(here: Path, loads: list[dict[str, Any]]) -> None:
    result = good("matte", "a.png", "-o", "cut.png", "--seed", "7", "--steps", "2", "--guidance", "2.5")
    assert "cut.png" in result.stdout
    with Image.open("cut.png") as image:
        assert (image.mode, image.size) == ("RGBA", (48, 32))
    record = read_metadata("cut.png")
    expected = {"task": "matting_auto", "seed": 7, "num_inference_steps": 2, "true_cfg_scale": 2.5, "model": "nano"}
    assert expected.items() <= record.items()
    assert record["prompt"] == TASKS["matting_auto"].instruction
    assert record["inputs"] == ["a.png"]
    assert record["version"] == omnialpha.__version__
    assert len(record["model_hash"]) == 16


def test_same_seed_same_bytes(here: Path, loads: list[dict[str, Any]]) -> None:
    for name, seed in (("1.psd", "3"), ("2.psd", "3"), ("3.psd", "4")):
        good("decompose", "a.png", "-o", name, "--seed", seed)
    assert Path("1.psd").read_bytes() == Path("2.psd").read_bytes()
    assert LayerStack.open("1.psd").flatten().tobytes() != LayerStack.open("3.psd").flatten().tobytes()


def test_model_hash_tells_weights_apart(pipe: omnialpha.OmniAlphaPipeline) -> None:
    from omnialpha.checkpoints import fingerprint

    assert fingerprint(pipe) == fingerprint(tiny.pipeline())
    assert fingerprint(pipe) != fingerprint(tiny.pipeline(seed=1))


@pytest.mark.parametrize("name", ["layers.psd", "layers.ora"])
def test_layers_with_json_beside(here: Path, loads: list[dict[str, Any]], name: str) -> None:
    good("decompose", "a.png", "--layers", "3", "-o", name)
    stack = LayerStack.open(name)
    assert [layer.name for layer in stack] == ["background", "foreground 2", "foreground 1"]
    assert json.loads(Path(f"{name}.json").read_text())["num_targets"] == 3


def test_results_have_the_resolution_of_the_first_picture(here: Path, loads: list[dict[str, Any]]) -> None:
    tiny.picture(1).save("scan.png", dpi=(300, 200))
    good("matte", "scan.png", "-o", "cut.png")
    good("decompose", "scan.png", "-o", "layers.psd")
    assert read_dpi("cut.png") == (300, 200)
    assert LayerStack.open("layers.psd").metadata["dpi"] == [300, 200]


def test_options_reach_the_model_and_the_pipeline(here: Path, loads: list[dict[str, Any]]) -> None:
    options = ["--model", "m", "--adapter", "x", "--few-step", "f", "--device", "cpu", "--dtype", "float32"]
    options += ["--memory", "auto"]
    options += ["--size", "32x16", "--step-cache", "taylorseer=4", "--guidance-interval", "0.1", "0.75"]
    good("generate", "a kite", "-o", "kite.png", *options)
    where = {"device": "cpu", "dtype": "float32", "memory": "auto"}
    assert loads == [{"name": "m", "adapter": "x", "few_step": "f", **where}]
    with Image.open("kite.png") as image:
        assert image.size == (32, 16)
    record = read_metadata("kite.png")
    assert (record["model"], record["adapter"], record["dtype"]) == ("m", "x", "float32")
    assert (record["step_cache"], record["guidance_interval"]) == ("taylorseer=4", [0.1, 0.75])


def test_batch_keeps_the_good_and_reports_the_bad(here: Path, loads: list[dict[str, Any]]) -> None:
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:60])
    message = failing(1, "matte", "a.png", "broken.png", "missing.png", "b.jpg", "-o", "out/")
    assert sorted(p.name for p in Path("out").iterdir()) == ["a_matting_auto.png", "b_matting_auto.png"]
    assert "broken.png" in message
    assert "missing.png" in message
    assert "2 done, 2 failed" in message
    assert len(loads) == 1


def test_folder_is_a_batch_with_a_guide_for_each(here: Path, loads: list[dict[str, Any]]) -> None:
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    tiny.picture(1).save("photos/one.png")
    tiny.picture(2).save("photos/two.png")
    Path("photos/notes.txt").write_text("no picture")
    tiny.mask().save("masks/one.png")
    message = failing(1, "remove", "photos", "--rough-mask", "masks", "-o", "{stem}.png")
    assert Path("one.png").is_file()
    assert str(Path("masks/two.png")) in message
    assert read_metadata("one.png")["task"] == "removal_rough_mask"


def premultiplied(path: str) -> np.ndarray:
    """What one sees of a picture, in 8-bit levels."""
    with Image.open(path) as image:
        pixels = np.array(image, dtype=np.float64)
    return np.concatenate([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3:]], axis=-1)


def test_pictures_of_a_size_share_a_call_and_come_out_as_alone(
    here: Path, pipe: omnialpha.OmniAlphaPipeline, loads: list[dict[str, Any]]
) -> None:
    """Up to the last bit: matrix products of other sizes add in another order."""
    for number in range(3):
        tiny.picture(number).save(f"p{number}.png")
    pictures = ["p0.png", "b.jpg", "p1.png", "p2.png"]
    calls: list[int] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    report = json.loads(good("matte", *pictures, "-o", "together/", "--seed", "3", "--steps", "2", "--json").stdout)
    assert calls == [3, 3, 1, 1]
    assert [result["inputs"] for result in report["results"]] == [[name] for name in pictures]
    assert {result["seed"] for result in report["results"]} == {3}
    calls.clear()
    good("matte", *pictures, "-o", "alone/", "--seed", "3", "--steps", "2", "--batch", "1")
    hook.remove()
    assert calls == [1] * 8
    for name in pictures:
        target = f"{Path(name).stem}_matting_auto.png"
        assert np.abs(premultiplied(f"together/{target}") - premultiplied(f"alone/{target}")).max() <= 1
        assert read_metadata(f"together/{target}") == read_metadata(f"alone/{target}")


def test_one_picture_of_a_call_fails_alone(here: Path, loads: list[dict[str, Any]]) -> None:
    """An empty mask is found out only by the model's checks, when its call has begun."""
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    for name in ("one", "two", "three"):
        tiny.picture(1).save(f"photos/{name}.png")
        tiny.mask().save(f"masks/{name}.png")
    Image.new("L", (48, 32)).save("masks/two.png")
    message = failing(1, "matte", "photos", "--mask", "masks", "-o", "out/")
    assert sorted(path.name[:3] for path in Path("out").iterdir()) == ["one", "thr"]
    assert "photos/two.png: the precise_mask is empty" in message
    assert "2 done, 1 failed" in message


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (["matte", "a.png"], "matting_auto"),
        (["matte", "a.png", "--text", "the cat"], "matting_text"),
        (["matte", "a.png", "--mask", "mask.png"], "matting_precise_mask"),
        (["matte", "a.png", "--trimap", "mask.png"], "matting_trimap"),
        (["remove", "a.png", "--alpha", "mask.png"], "removal_alpha"),
        (["decompose", "a.png", "--rough-mask", "mask.png"], "decomposition_rough_mask"),
        (["complete", "--foreground", "a.png", "--text", "t", "--want", "background"], "foreground_to_background"),
        (["complete", "--background", "a.png", "--text", "t", "--want", "composite"], "background_to_composite"),
        (["complete", "--background", "a.png", "--text", "t", "--want", "foreground"], "background_to_foreground"),
        (["generate", "t"], "text_to_image"),
    ],
)
def test_command_chooses_the_task(here: Path, loads: list[dict[str, Any]], arguments: list[str], task: str) -> None:
    result = json.loads(good(*arguments, "--json", "-o", "out/", "--steps", "2").stdout)
    assert [entry["task"] for entry in result["results"]] == [task]
    assert result["failures"] == []
    assert Path(result["results"][0]["output"]).exists()


@pytest.mark.parametrize("task", TASKS)
def test_run_does_every_task(here: Path, loads: list[dict[str, Any]], task: str) -> None:
    images = [option for slot in TASKS[task].inputs for option in ("--image", _file_for(slot))]
    text = ["--text", "a thing"] if TASKS[task].text else []
    good("run", task, *images, *text, "-o", "result.psd", "--steps", "2")
    names = [layer.name for layer in LayerStack.open("result.psd")]
    assert names == list(TASKS[task].layer_names(len(TASKS[task].targets)))[::-1]


def _file_for(slot: str) -> str:
    return "a.png" if slot in ("foregrounds", "background", "composite") else "mask.png"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "matting_aut", "--image", "a.png"], ['"matting_aut"', 'did you mean "matting_auto"']),
        (["run", "matting_trimap", "--image", "a.png"], ["2 images", "trimap"]),
        (["run", "matting_text", "--image", "a.png"], ["needs a text"]),
        (["run", "matting_auto", "--image", "a.png", "--text", "x"], ["takes no text"]),
        (["decompose", "a.png", "--layers", "1"], ["2 or more"]),
        (["matte", "a.png", "--mask", "mask.png", "--trimap", "mask.png"], ["--mask and --trimap"]),
        (["matte", "a.png", "b.jpg", "--mask", "mask.png"], ["mask.png", "folder with one guide per picture"]),
        (["matte", "a.png", "b.jpg", "-o", "x.png"], ["x.png", "{stem}"]),
        (["matte", "a.png", "-o", "{steam}.png"], ["{steam}", 'did you mean "stem"']),
        (["matte", "a.png", "-o", "{stem.png"], ["{stem.png"]),
        (["matte", "a.png", "-o", "x.pds"], [".pds", 'did you mean ".psd"']),
        (["matte", "a.png", "-o", "x.psd", "--format", "ora"], ["contradict"]),
        (["matte", "a.png", "--format", "pnk"], ['did you mean "png"']),
        (["matte", "a.png", "--dtype", "bfloat"], ['did you mean "bfloat16"']),
        (["matte", "a.png", "--size", "12by3"], ["12by3", "384x256"]),
        (["decompose", "a.png", "-o", "x.png"], ["x.png", "2 layers", ".psd"]),
        (["complete", "--text", "t", "--want", "composite"], ["--foreground", "--background"]),
        (["complete", "--background", "a.png", "--text", "t", "--want", "forground"], ['did you mean "foreground"']),
        (["matte", "a.png", "--modle", "nano"], ["--modle", "--model"]),
        (["mate", "a.png"], ["mate", "matte"]),
        (["matte", "a.png", "--steps", "0"], ["--steps"]),
        (["matte"], ["IMAGE"]),
        (["matte", "nothing/"], ["nothing", "no picture"]),
    ],
)
def test_wrong_usage_is_refused_before_a_model_is_loaded(
    here: Path, loads: list[dict[str, Any]], arguments: list[str], words: list[str]
) -> None:
    Path("nothing").mkdir()
    message = failing(2, *arguments)
    assert all(word in message for word in words), message
    assert loads == []


def test_unknown_model_suggests_the_nearest(here: Path) -> None:
    assert 'did you mean "nano"' in failing(2, "matte", "a.png", "--model", "nanno")


def test_bad_guides_name_the_picture(here: Path, loads: list[dict[str, Any]]) -> None:
    tiny.mask((6, 4)).save("small.png")
    Image.new("L", (48, 32)).save("empty.png")
    assert all(word in failing(1, "remove", "a.png", "--mask", "small.png") for word in ("a.png", "6×4", "48×32"))
    assert all(word in failing(1, "remove", "a.png", "--mask", "empty.png") for word in ("a.png", "empty"))


def test_existing_file_is_kept_without_overwrite(here: Path, loads: list[dict[str, Any]]) -> None:
    Path("cut.png").write_text("precious")
    assert "--overwrite" in failing(1, "matte", "a.png", "-o", "cut.png")
    assert Path("cut.png").read_text() == "precious"
    assert loads == []  # found before time was spent
    good("matte", "a.png", "-o", "cut.png", "--overwrite")
    assert read_metadata("cut.png")["task"] == "matting_auto"


def test_unwritable_output_is_one_line(here: Path, loads: list[dict[str, Any]]) -> None:
    Path("file").write_text("x")
    message = failing(1, "matte", "a.png", "-o", "file/cut.png")
    assert message.count("\n") == 1
    assert "cut.png" in message


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_no_memory_is_reported_and_the_batch_goes_on(
    here: Path,
    loads: list[dict[str, Any]],
    pipe: omnialpha.OmniAlphaPipeline,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    original, calls = type(pipe).__call__, []

    def call(self: omnialpha.OmniAlphaPipeline, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 1:
            raise error
        return original(self, **options)

    monkeypatch.setattr(type(pipe), "__call__", call)
    message = failing(1, "matte", "a.png", "b.jpg", "-o", "out/")
    assert "a.png: not enough memory" in message
    assert "--size" in message
    assert [path.name for path in Path("out").iterdir()] == ["b_matting_auto.png"]


def test_model_that_does_not_fit_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(omnialpha, "load", load, raising=False)
    assert "omnialpha doctor" in failing(1, "matte", "a.png")


def test_interruption_keeps_what_is_done(
    here: Path, loads: list[dict[str, Any]], pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = type(pipe).__call__, []

    def call(self: omnialpha.OmniAlphaPipeline, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, **options)

    monkeypatch.setattr(type(pipe), "__call__", call)
    result = cli("matte", "a.png", "b.jpg", "-o", "out/")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted; 1 of 2 results are complete\n"
    assert result.stdout.startswith(str(Path("out/a_matting_auto.png")))
    assert [path.name for path in Path("out").iterdir()] == ["a_matting_auto.png"]


def test_bugs_are_not_hidden(here: Path, loads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("omnialpha.apps.batch.write", broken)
    assert isinstance(cli("matte", "a.png").exception, RuntimeError)


def test_real_process_loads_a_saved_model_and_obeys_control_c(here: Path, pipe: omnialpha.OmniAlphaPipeline) -> None:
    pipe.save_pretrained("model")
    Path("many").mkdir()
    for number in range(500):
        os.link("a.png", f"many/{number:03}.png")
    command = ["matte", "many", "--model", "model", "-o", "out/"]
    running = fork(lambda: app(command), output=Path("log"))
    first = Path("out/000_matting_auto.png")
    while not first.exists() and running.is_alive():
        time.sleep(0.01)
    assert running.pid is not None
    os.kill(running.pid, signal.SIGINT)
    running.join(60)
    assert running.exitcode == 130, Path("log").read_text()
    assert re.search(r"^error: interrupted; \d+ of 500 results are complete\n\Z", Path("log").read_text(), re.MULTILINE)
    written = [path.name for path in Path("out").iterdir()]
    assert first.name in written
    assert not any(name.startswith(".omnialpha-") for name in written)
    assert all(read_metadata(Path("out") / name)["model"] == "model" for name in written)


def test_only_our_own_messages_are_shown_but_downloads_keep_their_bar(
    here: Path, loads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    monkeypatch.setattr(transformers.utils.logging, "_tqdm_active", True)
    monkeypatch.setattr(diffusers.utils.logging, "_tqdm_active", True)
    good("matte", "a.png", "-o", "cut.png")
    assert not transformers.utils.logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


def test_version_and_help() -> None:
    assert good("--version").stdout == f"omnialpha {omnialpha.__version__}\n"
    commands = good("--help").stdout
    names = ("tasks", "generate", "matte", "remove", "decompose", "complete", "run", "convert-vae", "models", "doctor")
    for name in names:
        assert f"\n  {name} " in commands


def test_common_options_are_frozen() -> None:
    options = (
        *("--output", "--format", "--model", "--adapter", "--seed", "--steps", "--guidance", "--size"),
        *("--few-step", "--step-cache", "--guidance-interval"),
        *("--device", "--dtype", "--json", "--overwrite"),
    )
    for command in ("generate", "matte", "remove", "decompose", "complete", "run"):
        text = good(command, "--help").stdout
        assert all(option in text for option in options), command
