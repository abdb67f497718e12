"""The model of a command: loaded once, when it is first needed, and named in what it makes."""

import sys
from typing import TYPE_CHECKING, Any

from omnialpha.apps.settings import Settings
from omnialpha.errors import CheckpointError

if TYPE_CHECKING:
    from omnialpha.pipeline import OmniAlphaPipeline


class Model:
    """The pipeline, loaded when the first readable picture needs it.

    Args:
        settings: Which model, where.
        steps_shown: Show the sampling steps as a progress bar.
    """

    def __init__(self, settings: Settings, *, steps_shown: bool) -> None:
        self._settings = settings
        self._steps_shown = steps_shown and not settings.json and sys.stderr.isatty()
        self._loaded: tuple[OmniAlphaPipeline, str] | None = None

    def get(self) -> "tuple[OmniAlphaPipeline, str]":
        """Return the pipeline and the fingerprint of its weights."""
        if self._loaded is None:
            import omnialpha
            from omnialpha.checkpoints import fingerprint

            s = self._settings
            quieten_dependencies()
            try:
                pipe = omnialpha.load(
                    s.model,
                    adapter=s.adapter,
                    few_step=s.few_step,
                    device=s.device,
                    dtype=s.dtype,
                    memory=s.memory,
                )
            except Exception as error:
                if is_out_of_memory(error):
                    raise CheckpointError(
                        f'not enough memory to load "{s.model}"; see `omnialpha doctor --plan`, '
                        "try --memory auto or --model nano"
                    ) from error
                raise
            pipe.set_progress_bar_config(disable=not self._steps_shown, leave=False)
            self._loaded = pipe, fingerprint(pipe)
        return self._loaded


def model_provenance(pipe: "OmniAlphaPipeline", model: str, adapter: str | None, model_hash: str) -> dict[str, Any]:
    """What is stored with every result about the model that made it.

    Args:
        pipe: The loaded model.
        model: What it was loaded as.
        adapter: What adapter it was loaded with.
        model_hash: Fingerprint of its weights.

    Returns:
        JSON values.
    """
    from omnialpha import __version__

    return {
        "model": model,
        "adapter": adapter,
        "model_hash": model_hash,
        "device": pipe._execution_device.type,  # weights may be elsewhere
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
        "memory": pipe.memory_plan,
        "version": __version__,
    }


def quieten_dependencies() -> None:
    """Keep the libraries below to errors: their hints and bars are about their insides, not about the user's job."""
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    downloads_shown = not are_progress_bars_disabled()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    if downloads_shown:  # transformers turns these off with its own
        enable_progress_bars()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell running out of memory from other errors: torch says it in a RuntimeError, differently per device."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
