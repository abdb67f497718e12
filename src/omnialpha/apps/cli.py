"""The command line: `omnialpha COMMAND …` or `python -m omnialpha COMMAND …`.

Every generating command makes a list of jobs (`jobs`) and runs it (`batch`); the options they share are in `settings`.
Heavy imports wait inside the functions, so that `--help` answers at once.
Exit codes: 0 all good, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from omnialpha.apps import data, evaluate, info, planning, serve, train
from omnialpha.apps.jobs import Job, guided_jobs
from omnialpha.apps.settings import Guides, Pipe, Settings, Stdout, with_options
from omnialpha.apps.studio import command as studio
from omnialpha.errors import InputError, OmniAlphaError, nearest
from omnialpha.tasks import task as find_task


class _Group(TyperGroup):
    """Commands whose expected errors become one line and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # Typer ends quietly when the reader of a pipe is gone
        except KeyboardInterrupt as error:
            _fail(str(error) or "interrupted", code=130)
        except InputError as error:
            _fail(str(error), code=2)
        except MemoryError:
            _fail("not enough memory; close other programs, or see `omnialpha doctor`", code=1)
        except (OmniAlphaError, OSError) as error:
            _fail(str(error), code=1)


def _fail(message: str, *, code: int) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


app = typer.Typer(
    name="omnialpha",
    cls=_Group,
    help="Transparent images: matting, removal, layer decomposition, completion and text-to-image in RGBA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _run(jobs: Sequence[Job], settings: Settings, *, stdout: bool) -> None:
    from omnialpha.apps import batch, pipes  # import NumPy and Pillow, which --help does not need

    (pipes.run_to_stdout if stdout else batch.run)(jobs, settings)


def _run_guided(category: str, pipe: Pipe, settings: Settings, images: Sequence[Path] | None, **options: Any) -> None:
    from omnialpha.apps import pipes

    with pipes.pictures(images, stdin=pipe.stdin) as pictures:
        _run(guided_jobs(category, pictures, **options), settings, stdout=pipe.stdout)


Images = Annotated[
    list[Path] | None, typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
Layers = Annotated[int | None, typer.Option("--layers", min=1, help="Number of layers. Default: the task's smallest.")]


@app.command()
def tasks(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the 21 tasks: what goes in, what comes out."""
    info.show_tasks(as_json=as_json)


@app.command()
@with_options
def generate(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to draw.", show_default=False)],
    *,
    stdout: Stdout = False,
    settings: Settings,
) -> None:
    """Draw something on a transparent background."""
    _run([Job(task=find_task("text_to_image"), text=text)], settings, stdout=stdout)


@app.command()
@with_options
def matte(
    images: Images = None,
    *,
    text: Annotated[str | None, typer.Option("--text", help="What to cut out.")] = None,
    guides: Guides,
    pipe: Pipe,
    settings: Settings,
) -> None:
    """Cut the foreground out, with soft transparency. For several images a guide is a folder of guides."""
    _run_guided("matting", pipe, settings, images, guides=guides, text=text)


@app.command()
@with_options
def remove(
    images: Images = None,
    *,
    guides: Guides,
    pipe: Pipe,
    settings: Settings,
) -> None:
    """Remove the foreground and restore the background. For several images a guide is a folder of guides."""
    _run_guided("removal", pipe, settings, images, guides=guides)


@app.command()
@with_options
def decompose(
    images: Images = None,
    *,
    layers: Layers = None,
    guides: Guides,
    pipe: Pipe,
    settings: Settings,
) -> None:
    """Take images apart into layers: foregrounds and complete background, as PSD, ORA or a folder of PNGs."""
    _run_guided("decomposition", pipe, settings, images, guides=guides, num_targets=layers)


@app.command()
@with_options
def complete(
    *,
    foreground: Annotated[list[Path] | None, typer.Option("--foreground", help="Cut-out; several are allowed.")] = None,
    background: Annotated[Path | None, typer.Option("--background", help="Scene.")] = None,
    text: Annotated[str, typer.Option("--text", help="What the result shows.", show_default=False)],
    want: Annotated[str, typer.Option("--want", help="foreground, background or composite.", show_default=False)],
    layers: Layers = None,
    stdout: Stdout = False,
    settings: Settings,
) -> None:
    """Add what is missing: a background to cut-outs, a foreground to a scene, or the finished picture to either."""
    images = tuple(foreground or ()) or tuple(path for path in [background] if path is not None)
    if not images or (foreground and background):
        raise InputError("give either --foreground (once or more) or --background")
    given = "foreground" if foreground else "background"
    wanted = tuple(name for name in ("foreground", "background", "composite") if name != given)
    if want not in wanted:
        raise InputError(
            f'--want "{want}" does not go with --{given}; use {" or ".join(wanted)}{nearest(want, wanted)}'
        )
    job = Job(task=find_task(f"{given}_to_{want}"), images=images, text=text, num_targets=layers)
    _run([job], settings, stdout=stdout)


@app.command()
@with_options
def run(
    task_id: Annotated[str, typer.Argument(metavar="TASK_ID", help="One of `omnialpha tasks`.", show_default=False)],
    *,
    image: Annotated[list[Path] | None, typer.Option("--image", help="Input, in the task's order; repeat it.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Caption, for tasks that take one.")] = None,
    layers: Layers = None,
    stdout: Stdout = False,
    settings: Settings,
) -> None:
    """Run any task by its id."""
    job = Job(task=find_task(task_id), images=tuple(image or ()), text=text, num_targets=layers)
    _run([job], settings, stdout=stdout)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Layered file, picture or folder of layers.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File, or a name without suffix: a folder.", show_default=False)
    ],
    format: Annotated[
        str | None,
        typer.Option("--format", help='Instead of the suffix: "exr-layers" (one part), "preview" (animated WebP), …'),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Convert between layered formats: PSD, ORA, TIFF, OpenEXR, SVG, PPTX, pictures and an animated preview."""
    from omnialpha import formats  # imports NumPy and Pillow
    from omnialpha.apps.batch import show_notes

    show_notes(quiet=False)
    formats.save(formats.open(source), target, format=format, overwrite=overwrite)
    typer.echo(str(target))


@app.command("convert-vae")
def convert_vae(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of an RGB VAE.", show_default=False)],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
) -> None:
    """Make a four-channel VAE from an RGB VAE by opaque initialisation (Eq. 4)."""
    from omnialpha.apps.convert import convert_vae as convert  # imports torch

    convert(source, destination, overwrite=overwrite)
    typer.echo(str(destination))


@app.command()
def calibrate(
    images: Images = None,
    *,
    model: Annotated[str, typer.Option("--model", help='"nano" (embedded) or a folder of your own.')] = "nano",
    adapter: Annotated[str | None, typer.Option("--adapter", help="Folder of an adapter for the model.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Sampling steps at which to measure.")] = 50,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, … Default: a GPU if any.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None,
) -> None:
    """Measure what --step-cache magcache needs to know of a checkpoint, and write it into its profile."""
    from omnialpha.apps.calibrate import calibrate as measure  # imports torch
    from omnialpha.apps.loading import quieten_dependencies

    quieten_dependencies()
    typer.echo(str(measure(images or (), model=model, adapter=adapter, steps=steps, device=device, dtype=dtype)))


@app.command()
@with_options
def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where pictures appear.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the results.", show_default=False)],
    *,
    task_id: Annotated[str, typer.Option("--task", help="What to do: a task on one picture.")] = "decomposition_auto",
    text: Annotated[str | None, typer.Option("--text", help="Caption, for tasks that take one.")] = None,
    layers: Layers = None,
    every: Annotated[float, typer.Option("--every", min=0.01, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End when everything that is there is done.")] = False,
    settings: Settings,
) -> None:
    """Watch a folder: every picture that appears in it is done, until Ctrl-C. What is done is not done again."""
    from omnialpha.apps.watch import watch as run_watch

    task = find_task(task_id)

    def make_job(picture: Path) -> Job:
        return Job(task=task, images=(picture,), text=text, num_targets=layers)

    make_job(folder)  # refuses now what would fail for every picture
    run_watch(folder, out, make_job, settings, every=every, once=once)


@app.command()
def comfyui(
    folder: Annotated[Path, typer.Argument(metavar="COMFYUI", help="ComfyUI's folder.", show_default=False)],
) -> None:
    """Make the nodes known to a ComfyUI in whose Python omnialpha is installed."""
    from omnialpha.apps.comfyui.install import install

    typer.echo(str(install(folder)))


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the checkpoints with a name: where they are, their size and licence."""
    info.show_models(as_json=as_json)


app.command()(planning.doctor)
app.command()(serve.serve)
app.command()(studio.studio)
app.add_typer(evaluate.app)
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from omnialpha import __version__

        typer.echo(f"omnialpha {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the `omnialpha` command."""
    app()
