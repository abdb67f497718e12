"""`omnialpha serve`: the HTTP service as a process."""

import logging
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.apps.settings import Serving, with_options

if TYPE_CHECKING:
    from omnialpha.apps.server.model import Model


@with_options
def serve(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 8000,
    serving: Serving,
    settings: ServiceSettings,
) -> None:
    """Serve the tasks over HTTP: a queue that survives restarts, and one worker that batches."""
    from omnialpha.apps.listening import listen
    from omnialpha.extras import require

    require("fastapi", extra="serve")
    uvicorn = require("uvicorn", extra="serve")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    with listen(serving.host, port) as listener:
        from omnialpha.apps.server.app import create_app

        app = create_app(load(serving), settings)
        # Direct calls of running jobs get their results: the worker has its grace time, and a little for the answers.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=int(settings.grace) + 5)
        typer.echo(
            f"Serving {serving.model} at http://{serving.host}:{listener.getsockname()[1]} (jobs in {settings.data})"
        )
        try:
            draining(uvicorn.Server)(config).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo(f"\nWaiting jobs stay in {settings.data}.")


def load(serving: Serving) -> "Model":
    """The model that the options name, with other libraries' chatter turned off."""
    import omnialpha
    from omnialpha.apps.loading import quieten_dependencies
    from omnialpha.apps.server.model import Model

    quieten_dependencies()
    pipeline = omnialpha.load(
        serving.model,
        adapter=serving.adapter,
        few_step=serving.few_step,
        device=serving.device,
        dtype=serving.dtype,
        memory=serving.memory,
    )
    return Model(pipeline, serving.model, serving.adapter)


def draining(server: Any) -> Any:
    """A uvicorn server that tells the service at once that the end has come: waiting jobs stay for the next start."""

    class Server(server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.config.app.state.service.drain()
            super().handle_exit(sig, frame)

    return Server
