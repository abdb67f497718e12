"""The runner on Ray against the runner of one machine."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnialpha.alphalayers import scale
from omnialpha.alphalayers.build import Local, build
from omnialpha.alphalayers.plan import Plan
from omnialpha.alphalayers.quality import Limits
from omnialpha.alphalayers.stages import STAGES
from omnialpha.data.sources import read_source
from omnialpha.errors import EndpointError


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small cut-outs with names, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("cutouts")
    rng = np.random.default_rng(3)
    for k in range(6):
        pixels = rng.integers(0, 256, (40, 32 + k, 4), dtype=np.uint8)
        pixels[..., 3] = 0
        pixels[6 + k : 30, 5:25, 3] = 255
        Image.fromarray(pixels).save(folder / f"red kite {k}.png")
    (folder / "broken thing.png").write_bytes(b"no picture")
    return folder


def plan_for(cutouts: Path, **changes: object) -> Plan:
    settings = {"size": 48, "keep": 4, "limits": Limits(least_extent=8, distance=-1)} | changes
    return Plan(source=cutouts, **settings)  # type: ignore[arg-type]


def tree(out: Path) -> dict[str, bytes]:
    """Everything that a build makes but its records, which hold times, and the plan's own file."""
    files = (file for file in sorted(out.rglob("*")) if file.is_file() and file.suffix != ".lock")
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in files
        if file.suffix == ".png" or "store" not in file.relative_to(out).parts
    }


@pytest.fixture(scope="module")
def expected(cutouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("here") / "out"
    plan = plan_for(cutouts)
    report = build(plan, out, Local(plan, out))
    assert (report.kept, report.failed) == (4, 1)
    return out


@pytest.mark.slow
def test_a_build_on_ray_makes_the_same_bytes(cutouts: Path, expected: Path, tmp_path: Path) -> None:
    plan, out = plan_for(cutouts), tmp_path / "out"
    with scale.OnRay(plan, out, address="local", workers=2) as runner:
        report = build(plan, out, runner)
    assert (report.kept, report.failed) == (4, 1)
    assert tree(out) == tree(expected)


@pytest.mark.slow
def test_an_error_in_an_actor_is_the_error_of_the_build(cutouts: Path, tmp_path: Path) -> None:
    plan = plan_for(cutouts, captioner="endpoint:http://127.0.0.1:9/v1#m?retries=0", remover="opencv:telea")
    with scale.OnRay(plan, tmp_path, address="local", workers=2) as runner, pytest.raises(EndpointError):
        build(plan, tmp_path, runner)


def test_the_actors_answer_like_the_local_runner(cutouts: Path, tmp_path: Path) -> None:
    plan = plan_for(cutouts)
    records = read_source("folder", cutouts)
    local = Local(plan, tmp_path)
    collecting = pickle.loads(pickle.dumps(scale._Collecting(plan, tmp_path, retry_failed=False)))
    rows = [{"item": np.array([pickle.dumps(record)], dtype=object)} for record in records]
    answers = [json.loads(collecting(row)["answer"][0]) for row in rows]
    there = list(local.collect(records))
    assert [isinstance(answer, dict) for answer in answers] == [not isinstance(found, list) for found in there]
    samples = [found[0] for found in there if isinstance(found, list)]
    assert [answer[0] for answer in answers if isinstance(answer, list)] == [s.to_json(tmp_path) for s in samples]

    caption = scale._Advancing(plan, tmp_path, "caption", retry_failed=False)
    batch = {"item": np.array([json.dumps(sample.to_json(tmp_path)) for sample in samples], dtype=object)}
    captioned = [json.loads(answer) for answer in caption(batch)["answer"]]
    advanced = list(local.advance(STAGES["caption"], samples))
    assert captioned == [sample.to_json(tmp_path) for sample in advanced]  # type: ignore[union-attr]
    assert captioned[0]["foreground_caption"] == "red kite"


def test_an_error_that_ends_the_build_is_an_answer(cutouts: Path, tmp_path: Path) -> None:
    plan = plan_for(cutouts, captioner="endpoint:http://127.0.0.1:9/v1#m?retries=0", remover="opencv:telea")
    collected = Local(plan, tmp_path).collect(read_source("folder", cutouts))
    samples = [found[0] for found in collected if isinstance(found, list)]
    caption = scale._Advancing(plan, tmp_path, "caption", retry_failed=False)
    answered = caption({"item": np.array([json.dumps(samples[0].to_json(tmp_path))], dtype=object)})
    with pytest.raises(EndpointError, match="refused"):
        raise pickle.loads(answered["error"][0])
