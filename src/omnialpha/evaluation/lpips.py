"""LPIPS v0.1, the learned perceptual distance of Zhang et al. (CVPR 2018), on AlexNet or VGG16.

The reference package needs torchvision, which many installations of torch cannot import. The networks are small: here
they are plain convolutions that read torchvision's files. Always state the backbone: "alex" and "vgg" do not compare.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from omnialpha.errors import CheckpointError, InputError
from omnialpha.evaluation._inputs import picture, same_shape, unit_floats
from omnialpha.evaluation.extractors import weights_file

if TYPE_CHECKING:
    import torch

# Convolutions (channels, kernel, stride, padding) and poolings (kernel, stride); "tap" marks compared activations.
_ALEX: tuple[Any, ...] = (
    *((64, 11, 4, 2), "tap", (3, 2), (192, 5, 1, 2), "tap", (3, 2)),
    *((384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap"),
)
_VGG: tuple[Any, ...] = (
    *((64, 3, 1, 1), (64, 3, 1, 1), "tap", (2, 2)),
    *((128, 3, 1, 1), (128, 3, 1, 1), "tap", (2, 2)),
    *((256, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "tap", (2, 2)),
    *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "tap", (2, 2)),
    *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "tap"),
)
_BACKBONES = {"alex": _ALEX, "vgg": _VGG}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [−1, 1]


class LPIPS:
    """Σ over five layers of the spatial mean of w · (f̂_p − f̂_g)², f̂ of unit length over channels; lower is better.

    Args:
        backbone_path: torchvision's "alexnet-owt-7be5be79.pth" or "vgg16-397923af.pth".
        weights_path: "alex.pth" or "vgg.pth" of the lpips package, folder ``weights/v0.1``.
        backbone: "alex" or "vgg".
        device: Where to run it.

    Raises:
        InputError: The backbone is unknown.
        CheckpointError: A file is missing or does not fit the backbone.
    """

    def __init__(
        self,
        backbone_path: str | Path,
        weights_path: str | Path,
        backbone: Literal["alex", "vgg"] = "alex",
        device: str = "cpu",
    ) -> None:
        import torch

        if backbone not in _BACKBONES:
            raise InputError(f'the backbone of LPIPS is "alex" or "vgg", not "{backbone}"')
        self.backbone = backbone
        file = weights_file(backbone_path, f"LPIPS needs torchvision's ImageNet weights of {backbone}")
        lin_file = weights_file(weights_path, f"LPIPS needs {backbone}.pth of the lpips package, weights/v0.1")
        state = torch.load(file, map_location=device, weights_only=True)
        lin_state = torch.load(lin_file, map_location=device, weights_only=True)
        self._device = device
        try:
            self._steps = _steps(_BACKBONES[backbone], state)
            self._lins = [lin_state[f"lin{index}.model.1.weight"] for index in range(5)]
        except KeyError as error:
            raise CheckpointError(f'weights of "{backbone}" lack {error}; pass the files of that backbone') from error

    def __call__(self, pred: np.ndarray | Image.Image, target: np.ndarray | Image.Image) -> float:
        """Distance of two RGB pictures.

        Args:
            pred: Pillow "RGB" image or ``(H, W, 3)``, floats in [0, 1] or ``uint8``.
            target: Likewise, of the same size.

        Returns:
            The distance, 0 for equal pictures.

        Raises:
            InputError: Sizes differ, an input is no RGB picture, or it is too small for the network.
        """
        import torch

        p, g = picture(pred, "prediction", 3), picture(target, "target", 3)
        same_shape(p, g)
        pair = torch.from_numpy(np.stack([unit_floats(p), unit_floats(g)])).float().permute(0, 3, 1, 2)
        with torch.no_grad():
            return self.distances(*pair.to(self._device).split(1)).item()

    def distances(self, pred: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
        """Distances of two batches; gradients pass through, so that it can be a loss.

        Args:
            pred: ``(B, 3, H, W)`` in [0, 1] on the network's device.
            target: Likewise, of the same size.

        Returns:
            ``(B,)``.

        Raises:
            InputError: The pictures are too small for the network.
        """
        import torch

        if min(pred.shape[2:]) < 32:
            raise InputError(f"LPIPS needs at least 32×32 pixels, not {pred.shape[3]}×{pred.shape[2]}")
        shift, scale = (torch.tensor(values, device=pred.device).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        taps = self._activations((torch.cat([pred, target]) * 2 - 1 - shift) / scale)
        total = torch.zeros(len(pred), device=pred.device)
        for activation, weight in zip(taps, self._lins, strict=True):
            # The epsilon stands inside the root: the gradient of a root is infinite at 0, where all activations rest.
            unit = activation / (activation.square().sum(1, keepdim=True) + 1e-20).sqrt()
            p, g = unit.chunk(2)
            total = total + torch.nn.functional.conv2d((p - g).square(), weight).mean(dim=(1, 2, 3))
        return total

    def _activations(self, x: "torch.Tensor") -> list["torch.Tensor"]:
        from torch.nn.functional import conv2d, max_pool2d

        taps = []
        for step in self._steps:
            if step == "tap":
                taps.append(x)
            elif len(step) == 2:
                x = max_pool2d(x, *step)
            else:
                x = conv2d(x, *step).relu()
        return taps


def _steps(layout: tuple[Any, ...], state: dict[str, Any]) -> list[Any]:
    """The layout with its weights put in: (weight, bias, stride, padding), (kernel, stride) or "tap"."""
    steps: list[Any] = []
    index = 0  # torchvision numbers convolutions, activations and poolings through
    for step in layout:
        if step == "tap":
            steps.append(step)
        elif len(step) == 2:
            steps.append(step)
            index += 1
        else:
            channels, kernel, stride, padding = step
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            if weight.shape[0] != channels or weight.shape[-1] != kernel:
                raise CheckpointError(
                    f"features.{index} has shape {tuple(weight.shape)}; pass the other backbone's file"
                )
            steps.append((weight, bias, stride, padding))
            index += 2
    return steps
