"""`omnialpha data …`: a data set of foreground, background and composite made from cut-outs (AlphaLayers, §3.4).

Heavy imports wait inside the functions.
"""

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from omnialpha.apps.config_file import use_config
from omnialpha.apps.filtering import Filter
from omnialpha.apps.settings import with_options
from omnialpha.errors import InputError

app = typer.Typer(
    help="Make layered training data from cut-outs: build, status, preview, publish, score, masks, split.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a build.", show_default=False)]
Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest (.jsonl).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@with_options
def build(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of cut-outs.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set.", show_default=False)],
    *,
    source_name: Annotated[
        str | None, typer.Option("--source-name", help="Layout of SOURCE, one of `data sources`. Default: recognised.")
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option("--backgrounds", help="Photographs for the offline editor. Default: those of a corpus, or drawn."),
    ] = None,
    captioner: Annotated[
        str, typer.Option("--captioner", help="offline, endpoint:URL#MODEL or transformers:MODEL.")
    ] = "offline",
    editor: Annotated[
        str | None, typer.Option("--editor", help="offline:BACKDROPS, diffusers:MODEL or omnialpha:MODEL.")
    ] = None,
    remover: Annotated[
        str, typer.Option("--remover", help="offline, opencv:telea, diffusers:MODEL or omnialpha:MODEL.")
    ] = "offline",
    keep: Annotated[int, typer.Option("--keep", min=1, help="So many triplets, those with the best scores.")] = 1000,
    test: Annotated[
        int | None, typer.Option("--test", min=0, help="Of them so many are held out. Default: a tenth.")
    ] = None,
    size: Annotated[int, typer.Option("--size", min=16, help="Longest side of a cut-out, pixels.")] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of every choice.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many entries of SOURCE.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Spread the work with Ray: over RAY_ADDRESS, or this machine.")
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="Address of the Ray cluster, or auto.")
    ] = None,
    publish: Annotated[bool, typer.Option("--publish/--no-publish", help="Write OUT/published: Parquet, card.")] = True,
    config: Annotated[
        Path | None,
        typer.Option("--config", callback=use_config, is_eager=True, help="TOML file with any of these options."),
    ] = None,
    as_json: Json = False,
    filter: Filter,
) -> None:
    """Make a data set from a folder of cut-outs. After an interruption the same command goes on."""
    from omnialpha.alphalayers.build import Local
    from omnialpha.alphalayers.build import build as make
    from omnialpha.alphalayers.plan import Plan

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if backgrounds is not None and editor is not None:
        raise InputError("--backgrounds is for the default editor; write the folder into --editor offline:BACKDROPS")
    place = backgrounds or (source if (source / "index.jsonl").is_file() else None)
    plan = Plan(
        source=source,
        source_name=source_name,
        captioner=captioner,
        editor=editor or f"offline:{place or 'procedural'}",
        remover=remover,
        aesthetic=filter.aesthetic,
        limits=filter.limits(),
        keep=keep,
        test=test,
        size=size,
        seed=seed,
        limit=limit,
    )
    if ray or ray_address is not None:
        from omnialpha.alphalayers.scale import OnRay

        with OnRay(plan, out, address=ray_address, retry_failed=retry_failed) as cluster:
            report = make(plan, out, cluster)
    else:
        report = make(plan, out, Local(plan, out, retry_failed=retry_failed))
    if publish and report.kept:
        from omnialpha.alphalayers.publish import publish as write

        write(out, overwrite=True)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        _tell(out, report)
    if not report.kept:
        first = json.loads((out / "dropped.jsonl").open(encoding="utf-8").readline())
        raise InputError(
            f"{out}: nothing is left of {report.entries} entries, {first['name']} for example because of "
            f'"{first["reason"]}" ({first["stage"]}); see {out / "dropped.jsonl"}'
        )


def _tell(out: Path, report: Any) -> None:
    typer.echo(f"{out / 'manifest.jsonl'}: {report.kept} triplets of {report.entries} entries, {report.test} held out")
    for name, count in report.dropped.items():
        typer.echo(f"{count} left out by {name}")
    if report.dropped:
        typer.echo(f"why: {out / 'dropped.jsonl'}")
    if report.failed:
        typer.echo(f"{report.failed} of them failed; --retry-failed tries them again")


@app.command()
def status(out: Out, *, as_json: Json = False) -> None:
    """Say how far a build has come: done, left out, failed and still to do, for each stage."""
    from omnialpha.alphalayers.status import status as count

    passes = count(out)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in passes]))
        return
    typer.echo(f"{'stage':20}{'done':>8}{'left':>8}{'dropped':>9}{'failed':>8}")
    for each in passes:
        left = "?" if each.left is None else each.left
        typer.echo(f"{each.name:20}{each.done:>8}{left:>8}{each.rejected:>9}{each.failed:>8}")
        for reason, number in each.reasons.items():
            typer.echo(f"{'':20}{number:>8} × {reason}")


@app.command()
def preview(
    out: Out,
    *,
    page: Annotated[
        Path | None, typer.Option("-o", "--out", help="HTML file to write. Default: OUT/preview.html.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="At most so many samples, spread evenly over the scores.")
    ] = 1000,
    side: Annotated[int, typer.Option("--side", min=16, help="Longest side of the pictures, pixels.")] = 192,
) -> None:
    """Show a build as one HTML file: layers, masks, scores, captions; to sort, search and filter."""
    from omnialpha.alphalayers.preview import preview as write

    page = page or out / "preview.html"
    count = write(out, page, limit=limit, side=side)
    typer.echo(f"{page}: {count} samples")


@app.command("publish")
def publish_build(
    out: Out,
    *,
    destination: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write. Default: OUT/published.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="parquet or webdataset.")] = "parquet",
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="Most megabytes of pictures in a file.")] = 500,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier publication.")] = False,
) -> None:
    """Write a build as a data set that others load, with its card."""
    from omnialpha.alphalayers.publish import publish

    typer.echo(str(publish(out, destination, format=format, shard_mb=shard_mb, overwrite=overwrite)))


@app.command()
def score(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="A manifest, or foreground, background and composite.", show_default=False
        ),
    ],
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the manifest anew, with its scores.")] = None,
    as_json: Json = False,
) -> None:
    """Say how well the layers of triplets fit together (Eq. 9–12); lower is better."""
    from omnialpha.alphalayers.score import score_files
    from omnialpha.data.manifest import Sample, iterate_manifest, write_manifest

    if len(files) not in (1, 3) or (out is not None and len(files) == 3):
        raise InputError(f"{len(files)} files; give a manifest, or foreground, background and composite without -o")
    foreground, *others = files
    samples: Any = iterate_manifest(foreground)
    if others:
        samples = [Sample(id=foreground.stem, foregrounds=(foreground,), background=others[0], composite=others[1])]
    scored = []
    for sample in samples:
        found = score_files(sample)
        scored.append((sample.id, found))
        if not as_json:
            typer.echo(f"{found.total:.6f}  {found.foreground:.6f}  {found.recomposite:.6f}  {sample.id}")
    if as_json:
        names = ("score", "foreground_error", "recomposite_error")
        records = [
            {"id": name, **dict(zip(names, (s.total, s.foreground, s.recomposite), strict=True))} for name, s in scored
        ]
        typer.echo(json.dumps(records))
    if out is not None:
        totals = {name: found.total for name, found in scored}
        write_manifest((replace(sample, score=totals[sample.id]) for sample in iterate_manifest(foreground)), out)


@app.command()
def masks(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="ALPHA...", help="Alpha mattes or cut-outs, or folders of them.", show_default=False),
    ],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the masks.", show_default=False)],
) -> None:
    """Make the four masks of each picture: alpha, precise, trimap, rough. Equal pictures get equal masks."""
    from omnialpha.alphalayers.masking import write_masks
    from omnialpha.data.sources.listing import pictures

    files = [file for path in images for file in (pictures(path).values() if path.is_dir() else [path])]
    for folder in write_masks(files, out):
        typer.echo(str(folder))


@app.command()
def split(
    manifest: Manifest,
    *,
    test: Annotated[int | None, typer.Option("--test", min=0, help="So many are held out. Default: a tenth.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Manifest to write. Default: MANIFEST.")] = None,
) -> None:
    """Split a manifest anew, so that no object is on both sides."""
    from omnialpha.alphalayers.assemble import split_manifest

    sides = split_manifest(manifest, out or manifest, test)
    typer.echo(f"{out or manifest}: {sides.count('train')} train, {sides.count('test')} test")


@app.command()
def sources(as_json: Json = False) -> None:
    """List the layouts of data sets that are read."""
    from omnialpha.data.sources import SOURCES, describe

    layouts = {name: describe(name) for name in sorted(SOURCES)}
    if as_json:
        typer.echo(json.dumps(layouts))
        return
    for name, layout in layouts.items():
        typer.echo(f"{name:16} {layout}")


@app.command()
def heldout(
    corpora: Annotated[Path, typer.Argument(metavar="CORPORA", help="Prepared corpora.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the objects and scenes of prepared corpora that are held out for tests."""
    from omnialpha.data.corpora import held_out

    found = held_out(corpora)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for kind, names in found.items():
        typer.echo(f"{kind}: {len(names)}")
        for name, count in names.items():
            typer.echo(f"{count:>6}  {name}")
