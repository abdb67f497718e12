"""`omnialpha eval BENCHMARK DATA …`: score a model, a baseline or a folder of predictions; compare two such runs.

Each benchmark is a command with its own choices and the common options below. Heavy imports wait inside the functions.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from omnialpha.apps import judging
from omnialpha.apps.settings import with_options
from omnialpha.errors import InputError

app = typer.Typer(
    name="eval",
    help="Score any method on the benchmarks of the paper; compare, judge, study.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where predictions come from. Attributes are the options."""

    model: Annotated[
        str | None, typer.Option("--model", help='Run a model: "nano", "omnialpha", a folder or a hub id.')
    ] = None
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Score a folder of predictions, of any method.")
    ] = None
    method: Annotated[
        str | None,
        typer.Option("--method", help="Run a baseline: constant, closed_form, knn, telea, navier_stokes, onnx:FILE."),
    ] = None
    adapter: Annotated[str | None, typer.Option("--adapter", help="Folder or hub id of an adapter for the model.")] = (
        None
    )
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, … Default: a GPU if any.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of every case.")] = 0
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps. Default: the model's.")] = None
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0.0, help="True CFG scale. Default: the model's.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How predictions are scored, and how the work is split. Attributes are the options."""

    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Output folder; an unfinished run in it goes on. Default: eval-BENCHMARK."),
    ] = None
    size: Annotated[
        str, typer.Option("--size", help="native: the target's size; generation: that of the prediction.")
    ] = "native"
    convention: Annotated[str, typer.Option("--convention", help="Of the matting metrics: aim or dim.")] = "aim"
    region: Annotated[
        str, typer.Option("--region", help="Pixels in which mattes are compared: whole, or trimap (its unknown part).")
    ] = "whole"
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first cases.")] = None
    shard: Annotated[str, typer.Option("--shard", help="Do one part only: 2/8 is the second of eight.")] = "1/1"
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")] = 1
    batch: Annotated[int, typer.Option("--batch", min=1, help="Cases per call of the model.")] = 1
    inception: Annotated[Path | None, typer.Option("--inception", help="inception-2015-12-05.pt, for FID.")] = None
    clip: Annotated[Path | None, typer.Option("--clip", help="Folder of CLIP, for CLIP-Score and CLIP-FID.")] = None
    lpips: Annotated[Path | None, typer.Option("--lpips", help="alex.pth or vgg.pth of lpips v0.1.")] = None
    lpips_backbone: Annotated[
        Path | None, typer.Option("--lpips-backbone", help="torchvision's weights of the same network.")
    ] = None
    lpips_net: Annotated[str, typer.Option("--lpips-net", help="Which network they are: alex or vgg.")] = "alex"


app.command("judge")(judging.judge)
app.command("study")(judging.study)
app.command("study-export")(judging.study_export)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the data set.", show_default=False)]
Manifest = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="Manifest (.jsonl); its test split is used.", show_default=False)
]
Erasing = Annotated[
    str, typer.Option("--task", help="A removal task, or a decomposition task, of which the background counts.")
]


@app.command("aim500")
@with_options
def aim500(
    data: Data,
    *,
    task: Annotated[str, typer.Option("--task", help="matting_auto, matting_trimap, …")] = "matting_auto",
    origin: Origin,
    scoring: Scoring,
) -> None:
    """AIM-500: alpha mattes of photographs (Table 5)."""
    _run("aim500", data, {"task": task}, origin, scoring)


@app.command("refmatte_rw100")
@with_options
def refmatte_rw100(
    data: Data,
    *,
    expressions: Annotated[
        str, typer.Option("--expressions", help="Which of an object's four: official (by the index file), last, all.")
    ] = "official",
    origin: Origin,
    scoring: Scoring,
) -> None:
    """RefMatte-RW100: mattes of what a text refers to (Table 4)."""
    _run("refmatte_rw100", data, {"expressions": expressions}, origin, scoring)


@app.command("rord")
@with_options
def rord(data: Data, *, task: Erasing = "removal_precise_mask", origin: Origin, scoring: Scoring) -> None:
    """RORD: backgrounds behind removed objects (Table 6)."""
    _run("rord", data, {"task": task}, origin, scoring)


@app.command("ober")
@with_options
def ober(data: Data, *, task: Erasing = "removal_precise_mask", origin: Origin, scoring: Scoring) -> None:
    """OBER: backgrounds behind removed objects and their shadows."""
    _run("ober", data, {"task": task}, origin, scoring)


@app.command("alphalayers_test")
@with_options
def alphalayers_test(
    data: Manifest,
    *,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Only this task; repeat it. Default: all 21.")
    ] = None,
    origin: Origin,
    scoring: Scoring,
) -> None:
    """AlphaLayersTest, or any manifest: all families of tasks (Tables 2, 4 and 5)."""
    _run("alphalayers_test", data, {"tasks": tasks} if tasks else {}, origin, scoring)


@app.command("t2i")
@with_options
def t2i(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Manifest (.jsonl), or AIM-500's folder.", show_default=False)
    ],
    *,
    captions: Annotated[Path | None, typer.Option("--captions", help="For AIM-500: JSON of stem to caption.")] = None,
    origin: Origin,
    scoring: Scoring,
) -> None:
    """Text to transparent image: FID and CLIP-Score (Table 2)."""
    _run("t2i", data, {"captions": captions}, origin, scoring)


@app.command("completion")
@with_options
def completion(
    data: Manifest,
    *,
    rival: Annotated[
        Path | None, typer.Option("--against", help="Another method's predictions; writes OUT/pairs for the judges.")
    ] = None,
    origin: Origin,
    scoring: Scoring,
) -> None:
    """Whole pictures from a foreground or a background, for pairwise judging (Table 3)."""
    _run("completion", data, {}, origin, scoring, rival=rival)


@app.command("crello_layers")
@with_options
def crello_layers(data: Data, *, origin: Origin, scoring: Scoring) -> None:
    """Crello: designs taken apart into layers, by LayerD's protocol."""
    _run("crello_layers", data, {}, origin, scoring, grouped=True)


@app.command("folder")
@with_options
def folder(
    data: Annotated[Path, typer.Argument(metavar="TARGETS", help="Folder of targets.", show_default=False)],
    *,
    kind: Annotated[
        str, typer.Option("--kind", help="What the targets are: matte, cutout, picture, layers.")
    ] = "matte",
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of inputs with the targets' names, to run a method on.")
    ] = None,
    trimaps: Annotated[
        Path | None, typer.Option("--trimaps", help="Folder of trimaps with the targets' names.")
    ] = None,
    origin: Origin,
    scoring: Scoring,
) -> None:
    """Folders of your own, files with equal names."""
    _run("folder", data, {"kind": kind, "images": images, "trimaps": trimaps}, origin, scoring)


@app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="results.json, or its folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The run compared with it.", show_default=False)],
    confidence: Annotated[float, typer.Option("--confidence", help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option("--resamples", min=1, help="Bootstrap samples.")] = 9999,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare runs whose settings differ.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the comparison as JSON as well.")] = None,
) -> None:
    """Compare two runs image by image: bootstrap intervals, wins and losses."""
    from omnialpha.evaluation import compare as comparison
    from omnialpha.evaluation.harness import write_json
    from omnialpha.evaluation.results import read_results
    from omnialpha.evaluation.tables import text

    runs = read_results(first), read_results(second)
    differences = comparison.compare(*runs, confidence=confidence, resamples=resamples, seed=seed, anyway=anyway)
    names = runs[0]["method"]["name"], runs[1]["method"]["name"]
    if anyway:
        for mismatch in comparison.mismatches(*runs):
            typer.echo(f"the runs differ in {mismatch}", err=True)
    typer.echo(text(comparison.table(differences, names)))
    if out is not None:
        write_json(comparison.to_dict(differences, names), out)


def _run(
    benchmark: str,
    data: Path,
    choices: dict[str, Any],
    origin: Origin,
    scoring: Scoring,
    *,
    grouped: bool = False,
    rival: Path | None = None,
) -> None:
    """Evaluate, report, and exit with 1 when some cases failed."""
    from tqdm import tqdm

    from omnialpha.apps.loading import quieten_dependencies
    from omnialpha.evaluation.harness import evaluate
    from omnialpha.evaluation.page import write_page
    from omnialpha.evaluation.plan import Plan, Source
    from omnialpha.evaluation.report import tables, write_tables
    from omnialpha.evaluation.results import collect
    from omnialpha.evaluation.scoring import Networks, Rules
    from omnialpha.evaluation.tables import text

    options = vars(scoring)
    networks = {name: options[name] for name in ("inception", "clip", "lpips", "lpips_backbone", "lpips_net")}
    rules = {name: options[name] for name in ("size", "convention", "region")}
    plan = Plan(
        benchmark=benchmark,
        data=data,
        choices={name: value for name, value in choices.items() if value is not None},
        source=Source(**vars(origin)),
        rules=Rules(**rules, grouped=grouped),
        networks=Networks(**networks, device=origin.device or "cpu"),
        limit=scoring.limit,
        batch=scoring.batch,
    )
    if origin.model is not None:
        quieten_dependencies()
    out = scoring.out or Path(f"eval-{benchmark}")
    part = _shard(scoring.shard)
    with tqdm(total=len(plan.cases[part[0] - 1 :: part[1]]), unit="case", disable=None, file=sys.stderr) as bar:
        finished = evaluate(plan, out, shard=part, workers=scoring.workers, progress=bar.update)
    if not finished:
        typer.echo(f"{out}: shard {scoring.shard} is done; whoever does the last one writes the report")
        return
    results = collect(plan, out)
    write_tables(results, out)
    page = write_page(results, plan, out)
    typer.echo("\n\n".join(text(table) for table in tables(results)))
    typer.echo(f"\n{page}")
    if rival is not None:
        _hand_over(plan, out, rival, results["method"]["name"])
    if results["failures"]:
        typer.echo(f"error: {len(results['failures'])} of {len(plan.cases)} cases failed; see {page}", err=True)
        raise typer.Exit(1)


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise InputError(f'--shard is written k/n with 1 ≤ k ≤ n, as in 2/8, not "{text}"')
    return int(part), int(parts)


def _hand_over(plan: Any, out: Path, rival: Path, name: str) -> None:
    from omnialpha.evaluation.handover import write_judging_folder

    left_out = write_judging_folder(plan, out, rival, (name, rival.name), out / "pairs")
    for reason in left_out:
        typer.echo(f"not to be judged: {reason}", err=True)
    typer.echo(f"{out / 'pairs'}: {len(plan.cases) - len(left_out)} pairs for `omnialpha eval judge` or `… study`")
