"""What a service allows and where it keeps its jobs; every field is an option of `omnialpha serve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Limits of a service. Attributes are the options."""

    data: Annotated[
        Path, typer.Option("--data", help="Folder of jobs and results; begun again, the service goes on with it.")
    ] = Path("omnialpha-jobs")
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key", envvar="OMNIALPHA_API_KEY", help="Key that clients must send; better set as variable."
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None, typer.Option("--cors-origin", help="Web origin whose pages may call; repeat it.")
    ] = None
    max_queue: Annotated[int, typer.Option("--max-queue", min=1, help="Waiting jobs; more are refused (429).")] = 256
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Jobs that the model does at a time.")] = 8
    batch_wait: Annotated[
        float, typer.Option("--batch-wait", min=0, help="Seconds to wait for company when the queue is short.")
    ] = 0.01
    max_upload: Annotated[int, typer.Option("--max-upload", min=1, help="Megabytes of a request.")] = 64
    max_megapixels: Annotated[float, typer.Option("--max-megapixels", min=0.001, help="Of each picture.")] = 16.0
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Pictures of a request.")] = 64
    max_layers: Annotated[int, typer.Option("--max-layers", min=1, help="Layers of a result.")] = 8
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="Sampling steps.")] = 100
    time_limit: Annotated[float, typer.Option("--time-limit", min=0.001, help="Seconds of work on a job.")] = 600.0
    wait_limit: Annotated[
        float, typer.Option("--wait-limit", min=0.001, help="Seconds that a direct call waits for its results.")
    ] = 300.0
    keep_hours: Annotated[float, typer.Option("--keep-hours", min=0, help="How long results are kept.")] = 24.0
    keep_jobs: Annotated[int, typer.Option("--keep-jobs", min=0, help="How many finished jobs are kept.")] = 1000
    grace: Annotated[
        float,
        typer.Option("--grace", min=0, help="Seconds to finish running jobs at the end; then they are queued again."),
    ] = 30.0
    lease: Annotated[
        float, typer.Option("--lease", min=0.1, help="Seconds after which the jobs of a dead process are taken over.")
    ] = 15.0
    network_folder: Annotated[
        bool, typer.Option("--network-folder", help="The data folder is shared by machines: no write-ahead log.")
    ] = False

    @property
    def max_pixels(self) -> int:
        """Pixels of each picture, and of all pictures of a batch."""
        return int(self.max_megapixels * 1_000_000)
