"""Run a model on shapes alone, and count the bytes that live and the operations that are done.

Floats on the "meta" device have a shape and no values. `Shapes` lets code that was written for real tensors run on
them: whole numbers (token ids, positions, sizes of pictures) are computed for real, because code branches on them;
floats stay shapes; what is copied back to the CPU becomes zeros. So the very code that will run is what is measured,
and a change of it changes the forecast.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, ValuesView
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class Meter(TorchDispatchMode):
    """Counts, while it is entered, the bytes of all tensors that live and the floating-point operations.

    Works on real tensors and, inside `Shapes`, on meta tensors. What an operation needs only while it runs (a
    convolution's scratch space) is not seen.

    Args:
        weights: tensors that are there before and are not counted.

    Attributes:
        stage: name under which peaks and operations are booked; to be set by hooks.
        peaks: stage → most bytes that lived at once in it.
        flops: stage → operations; a multiplication and an addition are two.
    """

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.stage = ""
        self.peaks: defaultdict[str, int] = defaultdict(int)
        self.flops: defaultdict[str, int] = defaultdict(int)
        self._live = self._weights = 0
        self._counted: set[int] = set()
        for tensor in weights:
            self._book(tensor)
        self._weights = self._live
        self.peaks.clear()

    def enter(self, stage: str) -> None:
        """Book what follows under another name, beginning with what lives now."""
        self.stage = stage
        self._note()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and book it."""
        result = _run(func, args, dict(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops[self.stage] += count(*args, **(kwargs or {}), out_val=result)
        for tensor in _tensors(result):
            self._book(tensor)
        return result

    def _book(self, tensor: Tensor) -> None:
        """Count a tensor's memory from now until it is freed; views share theirs."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._counted:
            return
        self._counted.add(key)
        self._live += size
        self._note()
        weakref.finalize(storage, self._forget, key, size)

    def _note(self) -> None:
        # Weights are counted as well, and then left out: a model may put some together and free the parts.
        self.peaks[self.stage] = max(self.peaks[self.stage], self._live - self._weights)

    def _forget(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self._live -= size


class Shapes(TorchFunctionMode):
    """Lets code for real tensors run on meta tensors; to be entered around a `Meter`.

    Attention is taken to run without a matrix of probabilities, as all kernels do that large models use.
    """

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the two functions that the dispatcher shows too late."""
        kwargs = dict(kwargs or {})
        if func is torch.tensor and _is_meta(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"})
        if func is F.scaled_dot_product_attention and (args or tuple(kwargs.values()))[0].is_meta:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        """Shape (…, S, E) of attention of queries (…, S, D) to values (…, T, E), and its operations."""
        *leading, D = query.shape
        T, E = value.shape[-2:]
        self._meter.flops[self._meter.stage] += 2 * torch.Size(leading).numel() * T * (D + E)
        return torch.empty(*leading, E, dtype=query.dtype, device="meta")


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation, by the rules of the module's text; nothing changes for real tensors alone."""
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    meta = any(tensor.is_meta for tensor in tensors)
    if meta and func is aten._to_copy.default and not _is_meta(kwargs.get("device", "meta")):
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
    if meta and not all(tensor.is_meta for tensor in tensors):
        args, kwargs = _shapes_of(args), {name: _shapes_of(value) for name, value in kwargs.items()}
    elif not meta and _is_meta(kwargs.get("device")) and _gives_whole_numbers(func, tensors, kwargs.get("dtype")):
        kwargs["device"] = torch.device("cpu")
    return _remembered(func, args, kwargs) if meta else func(*args, **kwargs)


def _remembered(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operation on meta tensors, from memory where the same shapes came before.

    Blocks are alike, and torch works the shapes of many operations out in Python: it takes half of the time.
    """
    if func not in _FRESH:
        returned = func._schema.returns
        _FRESH[func] = all(str(value.type) == "Tensor" for value in returned) and not any(
            value.alias_info for value in (*func._schema.arguments, *returned)
        )
    if not _FRESH[func]:
        return func(*args, **kwargs)
    key = func, _key(args), _key(tuple(kwargs.items()))
    if key not in _RESULTS:
        result = func(*args, **kwargs)
        made, given = list(_tensors([result])), {tensor.untyped_storage()._cdata for tensor in _tensors(args)}
        if all(tensor.is_meta and tensor.untyped_storage()._cdata not in given for tensor in made):
            _RESULTS[key] = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in made]
        return result
    again = [torch.empty_strided(shape, strides, dtype=dtype, device="meta") for shape, strides, dtype in _RESULTS[key]]
    return again[0] if len(again) == 1 else tuple(again)


_FRESH: dict[Any, bool] = {}
"""Whether an operation says that it returns tensors of its own, which share memory with no other."""

_RESULTS: dict[Any, list[tuple[torch.Size, tuple[int, ...], torch.dtype]]] = {}


def _key(value: Any) -> Any:
    """What of an argument decides about the shape of a result."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return type(value), value


def _gives_whole_numbers(func: Any, tensors: list[Tensor], dtype: torch.dtype | None) -> bool:
    """Whether an operation on real tensors, or none, makes integers or booleans."""
    if dtype is not None:
        return not dtype.is_floating_point
    if tensors:
        return not tensors[0].is_floating_point()
    return func._overloadpacket is aten.arange


def _is_meta(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


# Not torch's functions for trees: their closures keep tensors alive until the next garbage collection.


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple | ValuesView):
        for value in values:
            yield from _tensors(value)


def _shapes_of(values: Any) -> Any:
    """The same, nested as it was, with all tensors on the meta device."""
    if isinstance(values, list | tuple):
        return type(values)(_shapes_of(value) for value in values)
    return torch.empty_like(values, device="meta") if isinstance(values, Tensor) and not values.is_meta else values
