"""What makes the predictions: a checkpoint of this library, or a baseline, behind one small class each."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from omnialpha.errors import InputError
from omnialpha.evaluation.baselines import baseline
from omnialpha.evaluation.cases import Case, Content
from omnialpha.tasks import task as find_task

if TYPE_CHECKING:
    from omnialpha.pipeline import OmniAlphaPipeline

Batch = Sequence[tuple[Case, Content]]


class Method(Protocol):
    """Something that makes predictions."""

    def predict(self, batch: Batch) -> list[list[Image.Image]]:
        """Layers from back to front for each case; all cases share task, number of layers and sizes of the inputs."""

    def describe(self) -> dict[str, Any]:
        """What the results state about it, in JSON types."""


class OneByOne:
    """A method of `baselines` by name.

    Args:
        name: See there.
        tasks: What it will be asked for.
        seed: For those that draw.

    Raises:
        InputError: The name is unknown, or it can do none of the tasks.
        MissingExtraError: It needs a package that is not installed.
    """

    def __init__(self, name: str, tasks: Collection[str], *, seed: int) -> None:
        self._method = baseline(name)
        self._seed = seed
        if not set(tasks) & set(self._method.tasks):
            able, asked = ", ".join(self._method.tasks), ", ".join(sorted(tasks))
            raise InputError(f"{name} does {able}, not {asked}; choose another --task or --method")

    def predict(self, batch: Batch) -> list[list[Image.Image]]:
        """Run the cases one by one."""
        return [
            self._method(
                task=case.task,
                images=list(content.images),
                text=case.text,
                num_targets=case.num_targets,
                seed=self._seed,
            )
            for case, content in batch
        ]

    def describe(self) -> dict[str, Any]:
        """Name and settings."""
        return {"name": self._method.name, "settings": dict(self._method.settings)}


class Checkpoint:
    """A model, loaded when the first case needs it.

    Every case is generated with the same seed, so that each prediction can be made again alone, whatever the batch. The
    model works at the size that it would choose itself, and the prediction keeps that size.

    Args:
        model: Name, folder or hub id.
        adapter: Folder or hub id of an adapter.
        device: Default: a GPU if any.
        dtype: Default: the device's.
        seed: Of every case.
        steps: Default: the model's.
        guidance: Default: the model's.
    """

    def __init__(
        self,
        model: str,
        *,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        self._model, self._adapter, self._device, self._dtype = model, adapter, device, dtype
        self._seed, self._steps, self._guidance = seed, steps, guidance
        self._pipe: OmniAlphaPipeline | None = None

    def predict(self, batch: Batch) -> list[list[Image.Image]]:
        """Run the cases in one call of the pipeline."""
        import torch

        pipe = self._loaded()
        case = batch[0][0]
        images = [list(content.images) for _, content in batch]
        texts = None if case.text is None else [str(member.text) for member, _ in batch]
        generators: list[torch.Generator] = [torch.Generator("cpu").manual_seed(self._seed) for _ in batch]
        width, height = self._working_size(batch[0])
        output: Any = pipe(
            task=case.task,
            images=images if find_task(case.task).inputs else None,
            text=texts,
            num_targets=case.num_targets,
            num_inference_steps=self._steps,
            true_cfg_scale=self._guidance,
            generator=generators,
            height=height,
            width=width,
        )
        return [[layer.image for layer in stack] for stack in output.stacks]

    def describe(self) -> dict[str, Any]:
        """Checkpoint, weights' fingerprint, device, precision, and steps and guidance, by task where these differ."""
        from omnialpha.checkpoints import fingerprint

        pipe = self._loaded()
        return {
            "name": f"{self._model} + {self._adapter}" if self._adapter else self._model,
            "settings": {
                "seed": self._seed,
                "steps": self._steps or {"": pipe.profile.steps, **pipe.profile.task_steps},
                "guidance": {"": pipe.profile.true_cfg_scale, **pipe.profile.task_cfg}
                if self._guidance is None
                else self._guidance,
                "profile": pipe.profile.name,
                "device": pipe.device.type,
                "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
            },
            "weights": fingerprint(pipe),
        }

    def _loaded(self) -> "OmniAlphaPipeline":
        if self._pipe is None:
            import omnialpha

            self._pipe = omnialpha.load(self._model, adapter=self._adapter, device=self._device, dtype=self._dtype)
            self._pipe.set_progress_bar_config(disable=True)
        return self._pipe

    def _working_size(self, member: tuple[Case, Content]) -> tuple[int, int]:
        """Width and height at which the pipeline would work by itself."""
        from omnialpha.request import own_sizes, understand

        case, content = member
        profile = self._loaded().profile
        request = understand(
            profile,
            task=case.task,
            text=case.text,
            prompt=None,
            images=list(content.images) or None,
            num_targets=case.num_targets,
            steps=self._steps,
            true_cfg_scale=self._guidance,
            num_embeds=None,
        )
        return own_sizes(request, profile)[1]


def group_key(case: Case, content: Content) -> tuple[Any, ...]:
    """Cases with equal keys can share a batch."""
    return case.task, case.num_targets, case.text is None, tuple(image.size for image in content.images)


def check_inputs(case: Case, content: Content) -> None:
    """Refuse a case that brings targets only.

    Raises:
        InputError: The task has inputs and the case has none.
    """
    if find_task(case.task).inputs and not content.images:
        raise InputError(f"{case.name}: has no input pictures to run a method on; give them (--images), or predictions")
