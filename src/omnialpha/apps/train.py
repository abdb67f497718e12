"""`omnialpha train …`: manifest, cache, the two training stages, publishing. Heavy imports wait inside the functions.

For several processes put `accelerate launch -m` before it: `accelerate launch -m omnialpha train dit …`.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from omnialpha.errors import InputError, nearest

Recipe = TypeVar("Recipe")

app = typer.Typer(help="Train: the RGBA VAE, then the transformer.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Manifest (.jsonl), listing (.jsonc), prepared corpora, or cache.", show_default=False
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the result.", show_default=False)]
Run = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run, resumed when there.", show_default=False)]
HeldOut = Annotated[Path | None, typer.Option("--held-out", help="Data for validation. Default: DATA's test split.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out broken files instead of refusing them.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeat it.")]
Model = Annotated[str | None, typer.Option("--model", help="Checkpoint to start from: name, folder or hub id.")]
Adapter = Annotated[str | None, typer.Option("--adapter", help="Adapter to go on from: its VAE and its LoRA.")]
Vae = Annotated[Path | None, typer.Option("--vae", help="RGBA VAE to use: the result of stage 1.")]


@app.command()
def manifest(
    cutouts: Annotated[Path, typer.Argument(metavar="CUTOUTS", help="Folder of RGBA cut-outs.", show_default=False)],
    backgrounds: Annotated[
        Path, typer.Argument(metavar="BACKGROUNDS", help="Folder of photographs.", show_default=False)
    ],
    out: Out,
    *,
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Scenes to make.")] = 200,
    size: Annotated[int, typer.Option("--size", min=16, help="Width and height of a scene, pixels.")] = 512,
    most: Annotated[int, typer.Option("--foregrounds", min=1, help="At most so many cut-outs in a scene.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of every choice.")] = 0,
) -> None:
    """Make training samples: paste cut-outs over photographs. Captions: name.txt beside name.png, else the name."""
    from omnialpha.data.paste import paste_scenes

    file = paste_scenes(cutouts, backgrounds, out, scenes=scenes, size=size, most=most, seed=seed)
    typer.echo(str(file))


@app.command()
def cache(
    data: Data,
    out: Out,
    *,
    recipe: Annotated[str, typer.Option("--recipe", help="That of the training to come.")] = "lora_single_gpu",
    model: Model = None,
    adapter: Adapter = None,
    vae: Vae = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Examples made of each sample and structure.")] = 4,
    skip_broken: SkipBroken = False,
    changes: Set = None,
) -> None:
    """Encode pictures and prompts once: training on the result needs neither VAE nor VLM."""
    from accelerate import PartialState

    from omnialpha.training import recipes
    from omnialpha.training.cache import build_cache
    from omnialpha.training.config import override, parse_changes
    from omnialpha.training.data import groups_of, open_pictures
    from omnialpha.training.prepare import start_pipeline

    _start()
    # Only the transformer would be quantised, which has nothing to do here.
    settings = {"quantize": "no", **parse_changes(changes or [])}
    config = override(_known(recipe, recipes.DIT_RECIPES)(), settings)
    found = open_pictures(data, "train", skip_broken=skip_broken)
    pipeline = start_pipeline(config, data, model=model, adapter=adapter, vae=vae)
    for part in (pipeline.vae, pipeline.text_encoder):
        part.to(PartialState().device)
    groups = groups_of(found, data, config.size, pipeline.profile.grid)
    report = build_cache(pipeline, groups, out, draws=draws, seed=config.seed)
    typer.echo(f"{out}: {report.rows} examples, {report.encoded} tensors encoded, {report.reused} reused")


@app.command()
def vae(
    data: Data,
    out: Run,
    *,
    recipe: Annotated[str, typer.Option("--recipe", help="paper_vae or nano_vae.")] = "paper_vae",
    held_out: HeldOut = None,
    skip_broken: SkipBroken = False,
    changes: Set = None,
) -> None:
    """Stage 1: teach an RGB VAE transparency. The result is OUT/vae."""
    from omnialpha.training import recipes
    from omnialpha.training.config import override, parse_changes
    from omnialpha.training.data import has_test_split, open_pictures
    from omnialpha.training.vae import train_vae

    _start()
    config = override(_known(recipe, recipes.VAE_RECIPES)(), parse_changes(changes or []))
    pictures = open_pictures(data, "train", skip_broken=skip_broken)
    kept = None
    if held_out is not None or has_test_split(data):
        kept = open_pictures(held_out or data, "test", skip_broken=skip_broken)
    train_vae(config, pictures, out, held_out=kept)
    typer.echo(str(out / "vae"))


@app.command()
def dit(
    data: Data,
    out: Run,
    *,
    recipe: Annotated[
        str, typer.Option("--recipe", help="paper_dit, lora_single_gpu, nano_joint or nano_finetune.")
    ] = "paper_dit",
    model: Model = None,
    adapter: Adapter = None,
    vae: Vae = None,
    held_out: HeldOut = None,
    skip_broken: SkipBroken = False,
    changes: Set = None,
) -> None:
    """Stage 2: train the transformer on all tasks. The result is OUT/adapter, or OUT/pipeline without a LoRA."""
    from omnialpha.training import recipes
    from omnialpha.training.config import override, parse_changes
    from omnialpha.training.data import open_data
    from omnialpha.training.dit import train_dit
    from omnialpha.training.prepare import start_pipeline

    _start()
    config = override(_known(recipe, recipes.DIT_RECIPES)(), parse_changes(changes or []))
    pipeline = start_pipeline(config, data, model=model, adapter=adapter, vae=vae)
    source = open_data(data, config, grid=pipeline.profile.grid, held_out=held_out, skip_broken=skip_broken)
    origin = {"base": model or "random weights", "data": data.name}
    train_dit(config, pipeline, source, out, origin=origin)
    typer.echo(str(out / ("adapter" if config.lora_rank else "pipeline")))


@app.command()
def publish(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders of all stages, first to last; a published checkpoint stands for its own stages.",
            show_default=False,
        ),
    ],
    out: Out,
    *,
    corpora: Annotated[Path, typer.Option("--corpora", help="The prepared corpora they were trained on.")],
) -> None:
    """Turn a run of the whole model into an embedded checkpoint: float16 and a model card."""
    from omnialpha.training.publish import publish as write

    write(runs[-1], out, earlier=runs[:-1], corpora=corpora)
    typer.echo(str(out))


def _known(name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    if name not in recipes:
        raise InputError(f"unknown recipe {name!r}{nearest(name, recipes)}; recipes: {', '.join(recipes)}.")
    return recipes[name]


def _start() -> None:
    """Set up logging and the CPU."""
    import torch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # tiny values early in training slow CPUs down a hundredfold
