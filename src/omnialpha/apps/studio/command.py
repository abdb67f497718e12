"""`omnialpha studio`: the page and the HTTP service in one process, with one worker for both."""

import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.apps.settings import Serving, with_options

if TYPE_CHECKING:
    from omnialpha.apps.server.model import Model

_PATIENCE = 3  # seconds for open pages to go when the studio ends; they would never go by themselves


@dataclass(frozen=True, kw_only=True)
class Limits(ServiceSettings):
    """Those of the service, for people with cameras. Attributes are the options."""

    max_megapixels: Annotated[float, typer.Option("--max-megapixels", min=0.001, help="Of each picture.")] = 64.0


@with_options
def studio(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 7860,
    serving: Serving,
    settings: Limits,
) -> None:
    """Open a page in the browser for all tasks, with the HTTP service beside it."""
    from tempfile import TemporaryDirectory

    from omnialpha.apps.listening import listen
    from omnialpha.extras import require

    require("gradio", extra="studio")
    uvicorn = require("uvicorn", extra="studio")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    with listen(serving.host, port) as listener, TemporaryDirectory(prefix="omnialpha-studio-") as folder:
        from omnialpha.apps.serve import draining, load

        app = application(load(serving), settings, Path(folder))
        if not is_local(serving.host):
            typer.echo(
                "warning: everybody who reaches this machine can use the page, which asks for no key; "
                "leave --host out to keep it to yourself",
                err=True,
            )
        typer.echo(f"Open http://{serving.host}:{listener.getsockname()[1]} in a browser. Control-C ends.")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_PATIENCE)
        try:
            draining(uvicorn.Server)(config).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo(f"\nWaiting jobs stay in {settings.data}.")


def application(model: "Model", settings: ServiceSettings, folder: Path) -> Any:
    """Put the page beside the routes of a service.

    Args:
        model: Loaded once, for both.
        settings: Limits of both.
        folder: For what the page keeps: uploads, painted guides, files to fetch.

    Returns:
        The FastAPI application.
    """
    from omnialpha.apps.server.app import create_app
    from omnialpha.apps.studio.history import History
    from omnialpha.apps.studio.page.blocks import build, mount
    from omnialpha.apps.studio.runs import through

    app = create_app(model, settings)
    page = build(through(app.state.service), model.pipeline.profile, History(folder))
    return mount(app, page, settings.max_upload)


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("::1"), is_local("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
