"""Forecasts: against what real calls take, against published sizes, and which plan is chosen."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import tiny
from omnialpha.errors import InputError
from omnialpha.memory.architecture import Architecture
from omnialpha.memory.forecast import ROOM, Forecast, choose, forecasts
from omnialpha.memory.loading import describe, find
from omnialpha.memory.machine import Machine
from omnialpha.memory.plans import Plan, parse
from omnialpha.memory.trace import Trace, Work, trace
from omnialpha.pipeline import OmniAlphaPipeline

FULL = Plan()
CPU = Machine(
    kind="cpu", name="test", free=10**12, speeds={torch.float32: 1e10, torch.bfloat16: 1e10}, copying=1e9, fetching=1e9
)
GPU = Machine(kind="cuda", name="test", free=80 * 10**9, speeds={torch.bfloat16: 6e14}, copying=2e12, fetching=2e10)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Keeps what runs on shapes gave, which takes nearly all of a forecast's time."""
    known: dict[tuple[Any, ...], tuple[Trace, Trace]] = {}

    def trace_once(architecture: Architecture, pipes: Any, work: Work, kind: str) -> tuple[Trace, Trace]:
        key = architecture.name, pipes[0].dtype, work, kind
        if key not in known:
            known[key] = trace(architecture, pipes, work, kind)
        return known[key]

    with mock.patch("omnialpha.memory.forecast.trace", trace_once):
        yield


@pytest.fixture(scope="module")
def architecture(saved: Path) -> Architecture:
    return describe(saved, None)


@pytest.fixture(scope="module")
def released() -> dict[str, Forecast]:
    work = Work(size=(256, 256), steps=50, guidance=1.0)
    found = forecasts(Architecture.released(), work, GPU, dtype=torch.bfloat16)
    return {forecast.plan.name: forecast for forecast in found}


def forecast(architecture: Architecture, plan: Plan = FULL, work: Work = Work()) -> Forecast:  # noqa: B008  (frozen)
    return forecasts(architecture, work, CPU, dtype=torch.float32, plans=[plan])[0]


def allocated(pipe: OmniAlphaPipeline, **call: Any) -> int:
    """The most bytes that torch's allocator gave out at once during a call, by its profiler."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        pipe(seed=0, output_type="pt", **call)
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def weights(pipe: OmniAlphaPipeline) -> int:
    models = (pipe.text_encoder, pipe.transformer, pipe.vae)
    return sum(p.numel() * p.element_size() for model in models for p in model.parameters())


@pytest.mark.parametrize(
    ("work", "call"),
    [
        (
            Work(size=(96, 48), targets=3, guidance=3.0, samples=2),
            {
                "task": "decomposition_auto",
                "images": [[tiny.picture(size=(96, 48))], [tiny.picture(1, size=(96, 48))]],
                "num_targets": 3,
                "true_cfg_scale": 3.0,
                "height": 48,
                "width": 96,
            },
        ),
        # Not smaller: for a convolution of few values torch takes scratch memory, which the forecast does not know.
        (
            Work(task="text_to_image", size=(128, 128)),
            {"task": "text_to_image", "text": "a description of what there is to see", "height": 128, "width": 128},
        ),
    ],
    ids=["guided batch", "no picture"],
)
def test_memory_is_that_of_a_real_call_within_a_tenth(
    architecture: Architecture, work: Work, call: dict[str, Any]
) -> None:
    pipe = tiny.pipeline()
    assert forecast(architecture, work=work).peak == pytest.approx(weights(pipe) + allocated(pipe, **call), rel=0.1)


def test_the_released_weights_have_their_published_sizes(released: dict[str, Forecast]) -> None:
    # Model cards: 20.4 billion values in the transformer, 8.3 in the VLM, 0.13 in the VAE; rank 256 on 8 layers of 60
    # blocks adds 0.76. In bfloat16 that is 59.2 GB, and at 256² there is little beside it.
    assert 59.1e9 < released["full"].peak < 61e9
    assert released["full+model_offload"].peak == pytest.approx(2 * (20.43 + 0.76 + 0.13) * 1e9, rel=0.03)
    assert released["nf4"].peak == pytest.approx((20.43 * 0.5625 + 2 * (8.29 + 0.76 + 0.13)) * 1e9, rel=0.05)
    assert released["int8"].peak == pytest.approx((20.43 + 2 * (8.29 + 0.76 + 0.13)) * 1e9, rel=0.04)
    assert released["fp8_layerwise"].peak == pytest.approx(released["int8"].peak, rel=0.01)
    assert released["full+group_offload"].peak < 5e9


def test_plans_differ_in_time_as_they_should(released: dict[str, Forecast]) -> None:
    seconds = {name: found.seconds for name, found in released.items()}
    assert list(seconds.values()) == sorted(seconds.values())
    assert min(seconds, key=seconds.__getitem__) == "full"
    assert seconds["full"] < seconds["full+model_offload"] < seconds["full+free_text_encoder"]
    # 0.65 of 40 GB for each of 50 steps at 20 GB/s cannot take less, whatever the computing does meanwhile
    assert seconds["full+group_offload"] > 50 * 40 / 20


@pytest.mark.parametrize(
    ("gigabytes", "chosen"), [(80, "full"), (48, "nf4"), (24, "nf4+model_offload"), (8, "fp8_layerwise+group_offload")]
)
def test_the_fastest_plan_that_fits_is_chosen(released: dict[str, Forecast], gigabytes: float, chosen: str) -> None:
    fitting = [name for name, found in released.items() if ROOM * found.peak <= gigabytes * 1e9]
    assert fitting[0] == chosen


def test_choosing_stays_within_a_limit_or_refuses_with_the_numbers(architecture: Architecture) -> None:
    full = forecast(architecture)
    turns = parse("free_text_encoder")

    def chosen(limit: float | None = None) -> Plan:
        return choose(architecture, Work(), CPU, dtype=torch.float32, plans=[FULL, turns], limit=limit).plan

    assert chosen() == FULL
    assert chosen(1.09 * full.peak) == turns
    with pytest.raises(InputError, match=r"needs .* GB for decomposition_auto even as full\+free_text_encoder, 0.0 GB"):
        chosen(1000)


def test_steps_take_time_and_a_little_memory(architecture: Architecture) -> None:
    few, many = forecast(architecture), forecast(architecture, work=Work(steps=40))
    assert 3 * few.seconds < many.seconds < 20 * few.seconds  # VLM and VAE work once
    blocks, values, width = 2, 12, 32
    more = (40 - tiny.PROFILE.steps) * blocks * values * width * 4  # modulation of all blocks in float32
    assert many.stages["transformer"] - few.stages["transformer"] == pytest.approx(more, rel=0.2)
    assert many.stages["vae_decoder"] - few.stages["vae_decoder"] == pytest.approx(more, rel=0.2)


def test_a_call_that_cannot_be_is_refused(architecture: Architecture) -> None:
    with pytest.raises(InputError, match="takes exactly 2 pictures"):
        forecast(architecture, work=Work(task="removal_trimap", inputs=3))
    with pytest.raises(InputError, match="did you mean"):
        forecast(architecture, work=Work(task="matting_atuo"))


def test_checkpoints_are_found_by_name_without_their_weights(tmp_path: Path, saved: Path) -> None:
    assert find("omnialpha").depth == 60
    assert find("nano").profile.name == "nano"
    bare = tmp_path / "bare"
    for file in saved.rglob("*.json"):
        (bare / file.relative_to(saved)).parent.mkdir(parents=True, exist_ok=True)
        (bare / file.relative_to(saved)).write_bytes(file.read_bytes())
    said = json.loads((bare / "transformer/config.json").read_text())
    assert find(str(bare)).depth == said["num_layers"]


def test_an_adapter_counts_with_its_rank(tmp_path: Path) -> None:
    base, adapter = tiny.write_base(tmp_path / "base"), tiny.write_adapter(tmp_path / "adapter")
    with_lora = find(str(base), str(adapter))
    assert with_lora.lora is not None
    assert with_lora.lora[0] == 2
    assert with_lora.vae["input_channels"] == 4
