"""The commands of `omnialpha eval` that ask for preferences: a VLM judge, and a study with people."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnialpha.errors import InputError

if TYPE_CHECKING:
    from omnialpha.evaluation.endpoint import Endpoint
    from omnialpha.evaluation.judge import Judgement
    from omnialpha.evaluation.pairs import Pair

Pairs = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with pairs.jsonl.", show_default=False)]


def judge(
    folder: Pairs,
    *,
    url: Annotated[str, typer.Option("--url", help="Address of the service, up to and with /v1.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="Name of the vision model there.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Results, table and replies.", show_default=False)],
    key: Annotated[str, typer.Option("--key", help="Environment variable with the key, if set.")] = "OPENAI_API_KEY",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", help="NAME=VALUE for every request; repeat it.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Pairs judged at a time.")] = 4,
    pace: Annotated[float | None, typer.Option("--pace", help="Most requests a minute. Default: no limit.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds of silence before a retry.")] = 120,
    input_price: Annotated[float | None, typer.Option("--input-price", help="Price of a million input tokens.")] = None,
    output_price: Annotated[float | None, typer.Option("--output-price", help="Of a million output tokens.")] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="Stop asking at this cost of one run.")] = None,
) -> None:
    """Let a vision model choose between two methods, case by case, in both orders. Begun again, it goes on."""
    from omnialpha.evaluation.endpoint import Endpoint, EndpointSettings
    from omnialpha.evaluation.judge import judge as judge_all
    from omnialpha.evaluation.pairs import read_pairs

    pairs = read_pairs(folder)
    settings = EndpointSettings(
        url=url,
        model=model,
        parameters={"temperature": 0} | dict(_parameter(text) for text in parameter or ()),
        timeout=timeout,
        requests_per_minute=pace,
        input_price=input_price,
        output_price=output_price,
        budget=budget,
    )
    with Endpoint(settings, cache=out / "replies", api_key=os.environ.get(key)) as endpoint:
        judgements = list(_progress(judge_all(pairs, endpoint, workers), total=len(pairs)))
        _report(pairs, judgements, endpoint, out)


def study(
    folder: Pairs,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The study's folder, with all votes.", show_default=False)],
    annotators: Annotated[int, typer.Option("--annotators", min=1, help="Number of codes to make.")] = 10,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 to be reached from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 8765,
) -> None:
    """Serve a page on which people choose between two methods. Begun again, the study goes on."""
    from omnialpha.apps.listening import listen
    from omnialpha.evaluation.pairs import read_pairs
    from omnialpha.evaluation.study import Study
    from omnialpha.evaluation.study_server import application, check_pictures
    from omnialpha.extras import require

    uvicorn = require("uvicorn", extra="study")
    pairs = read_pairs(folder)
    check_pictures(pairs)
    running = Study.begin(out, pairs, annotators)
    with listen(host, port) as listener:
        typer.echo("A link for each annotator:")
        for code in running.annotators():
            typer.echo(f"  http://{host}:{listener.getsockname()[1]}/#{code}")
        typer.echo(f"Votes are saved in {out}. Control-C ends; then: omnialpha eval study-export {out} -o results")
        config = uvicorn.Config(application(running, pairs), log_level="warning", timeout_graceful_shutdown=5)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo(f"\n{len(running.votes())} votes are saved.")


def study_export(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for CSV, JSON and table.", show_default=False)],
) -> None:
    """Evaluate the votes of a study: majorities with intervals, agreement, all votes as CSV. It may be running."""
    from omnialpha.evaluation.study import Study
    from omnialpha.evaluation.study_results import export

    typer.echo(export(Study(folder), out))


def _parameter(text: str) -> tuple[str, Any]:
    """NAME=VALUE, with a value in JSON or else a text."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise InputError(f'"{text}" is no parameter; write NAME=VALUE, as in max_tokens=300')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _progress(judgements: Any, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(judgements, total=total, unit="pair", disable=None)  # None: off where there is no terminal


def _report(pairs: "Sequence[Pair]", judgements: "Sequence[Judgement]", endpoint: "Endpoint", out: Path) -> None:
    """Write and print what came out; fail when a pair has no verdict."""
    from omnialpha.evaluation.judge import results, summarise
    from omnialpha.evaluation.preference import preference_table
    from omnialpha.imaging.files import atomic_write

    found = results(pairs, judgements, endpoint)
    table = preference_table(summarise(judgements), list(pairs[0].candidates), endpoint.settings.model)
    for name, text in {
        "results.json": json.dumps(found, indent=1, ensure_ascii=False) + "\n",
        "table.md": table,
    }.items():
        with atomic_write(out / name, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    typer.echo(table)
    usage = found["usage"]
    for title, part in (("All replies", usage["all"]), ("Of these, in this run", usage["this_run"])):
        cost = "" if part["cost"] is None else f", cost {part['cost']:.4f}"
        unmetered = f", {part['unmetered']} replies without a token count" if part["unmetered"] else ""
        tokens = f"{part['input_tokens']} + {part['output_tokens']} tokens"
        typer.echo(f"{title}: {part['replies']}, {tokens}{cost}{unmetered}")
    if missing := [judgement for judgement in judgements if judgement.outcome is None]:
        for judgement in missing:
            typer.echo(f"no verdict on {judgement.pair.id}: {judgement.problem}", err=True)
        raise typer.Exit(1)
