"""The loaded model of a service, and what is said about it."""

from typing import Any

from omnialpha.apps.loading import model_provenance
from omnialpha.checkpoints import fingerprint
from omnialpha.pipeline import OmniAlphaPipeline


class Model:
    """A pipeline with its name.

    Args:
        pipeline: Loaded; the service's worker is the only one to call it.
        name: What it was loaded as.
        adapter: What adapter it was loaded with.

    Attributes:
        provenance: What is stored with every result, in JSON types.
    """

    def __init__(self, pipeline: OmniAlphaPipeline, name: str = "nano", adapter: str | None = None) -> None:
        self.pipeline = pipeline
        pipeline.set_progress_bar_config(disable=True)
        self.provenance = model_provenance(pipeline, name, adapter, fingerprint(pipeline))

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/models` says, in JSON types."""
        profile = self.pipeline.profile
        return {
            **self.provenance,
            "profile": profile.name,
            "steps": profile.steps,
            "guidance": profile.true_cfg_scale,
            "grid": profile.grid,
            "max_area": profile.max_area,
        }
