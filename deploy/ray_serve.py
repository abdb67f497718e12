"""The service on Ray Serve: many replicas behind one address, one data folder.

    pip install "omnialpha[serve]" "ray[serve]"
    OMNIALPHA_DATA=/data OMNIALPHA_REPLICAS=2 serve run deploy.ray_serve:app

Every replica has its own model and worker, and claims jobs from the shared folder with a lease: what a killed replica
was working on is taken over by another when the lease ends, and whoever is asked about a job answers from the folder.
Replicas on several machines need a folder that all of them see, with working file locks: OMNIALPHA_NETWORK_FOLDER=1
does without SQLite's write-ahead log there.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from ray import serve

from omnialpha.apps.server.settings import ServiceSettings


def build() -> FastAPI:
    """The application of one replica."""
    import omnialpha
    from omnialpha.apps.server.app import create_app
    from omnialpha.apps.server.model import Model

    name = os.environ.get("OMNIALPHA_MODEL", "nano")
    settings = ServiceSettings(
        data=Path(os.environ.get("OMNIALPHA_DATA", "omnialpha-jobs")).absolute(),
        api_key=os.environ.get("OMNIALPHA_API_KEY"),
        lease=float(os.environ.get("OMNIALPHA_LEASE", "15")),
        network_folder=os.environ.get("OMNIALPHA_NETWORK_FOLDER") == "1",
    )
    return create_app(Model(omnialpha.load(name), name), settings)


@serve.deployment(
    num_replicas=int(os.environ.get("OMNIALPHA_REPLICAS", "2")),
    max_ongoing_requests=256,  # the queue of the service is the one that says no
    ray_actor_options={
        "num_cpus": float(os.environ.get("OMNIALPHA_CPUS", "1")),
        "num_gpus": float(os.environ.get("OMNIALPHA_GPUS", "0")),
    },
)
@serve.ingress(build)
class Replica:
    """One process with one model; its routes are those of the application."""


app = Replica.bind()
