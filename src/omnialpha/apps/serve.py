"""`omnialpha serve`: the HTTP service as a process."""

import logging
from types import FrameType
from typing import Annotated, Any

import typer

from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.apps.settings import with_options


@with_options
def serve(
    *,
    model: Annotated[
        str, typer.Option("--model", help='"nano" (embedded), "omnialpha", a folder or a hub id.')
    ] = "nano",
    adapter: Annotated[str | None, typer.Option("--adapter", help="Adapter for the model.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, … Default: a GPU if any.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 to be reached from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 8000,
    settings: ServiceSettings,
) -> None:
    """Serve the tasks over HTTP: a queue that survives restarts, and one worker that batches."""
    from omnialpha.apps.listening import listen
    from omnialpha.extras import require

    require("fastapi", extra="serve")
    uvicorn = require("uvicorn", extra="serve")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    with listen(host, port) as listener:
        import omnialpha
        from omnialpha.apps.batch import quieten_dependencies
        from omnialpha.apps.server.app import create_app
        from omnialpha.apps.server.model import Model

        quieten_dependencies()
        pipeline = omnialpha.load(model, adapter=adapter, device=device, dtype=dtype)
        app = create_app(Model(pipeline, model, adapter), settings)
        # Direct calls of running jobs get their results: the worker has its grace time, and a little for the answers.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=int(settings.grace) + 5)
        typer.echo(f"Serving {model} at http://{host}:{listener.getsockname()[1]} (jobs in {settings.data})")
        try:
            draining(uvicorn.Server)(config).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo(f"\nWaiting jobs stay in {settings.data}.")


def draining(server: Any) -> Any:
    """A uvicorn server that tells the service at once that the end has come: waiting jobs stay for the next start."""

    class Server(server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.config.app.state.service.drain()
            super().handle_exit(sig, frame)

    return Server
