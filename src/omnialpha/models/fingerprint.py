"""A short hash that names weights: of a few values of every tensor, so that it costs as good as nothing."""

import hashlib

from torch import Tensor, nn


def read_samples(model: nn.Module) -> bytes:
    """Names, shapes and some values of a model's tensors; of quantised ones, of the tensors that they consist of."""
    samples = []
    for name, tensor in sorted(model.state_dict().items()):
        for part in plain_parts(tensor.detach()):
            values = part.flatten()
            sample = values[:: max(1, len(values) // 256)][:256].float().cpu().numpy()
            samples += [f"{name} {tuple(part.shape)}".encode(), sample.tobytes()]
    return b"".join(samples)


def short_hash(*samples: bytes) -> str:
    """16 hexadecimal digits for the samples of VAE, text encoder and transformer."""
    return hashlib.sha256(b"".join(samples)).hexdigest()[:16]


def plain_parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a quantised one consists of; a plain one itself."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor]
    names, _ = flatten()
    return [part for name in names for part in plain_parts(getattr(tensor, name))]
