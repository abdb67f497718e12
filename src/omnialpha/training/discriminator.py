"""The patch discriminator of L_GAN (Eq. 2): a verdict for every patch of 70 × 70 pixels."""

from torch import Tensor, nn

SLOPE = 0.2
INITIAL_STD = 0.02
GROUPS = 8


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (Isola et al., CVPR 2017): five 4 × 4 convolutions, the first three halving the picture.

    Group normalisation stands where the original has batch normalisation: at the paper's two pictures per device the
    statistics of a batch say little, and a picture's verdict would depend on its neighbours.

    Args:
        dim: channels after the first convolution, a multiple of 4; 64 in the original.
        channels: of the picture.
    """

    def __init__(self, dim: int = 64, channels: int = 4) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, dim, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for width, stride in ((2 * dim, 2), (4 * dim, 2), (8 * dim, 1)):
            inputs = width // 2
            layers += [
                nn.Conv2d(inputs, width, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(GROUPS, width),
                nn.LeakyReLU(SLOPE),
            ]
        super().__init__(*layers, nn.Conv2d(8 * dim, 1, 4, padding=1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INITIAL_STD)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            x_BCHW: premultiplied RGBA in [-1, 1], H and W at least `vae_config.SMALLEST_PATCH`.

        Returns:
            (B, 1, H/8 − 2, W/8 − 2) logits, high for what looks real.
        """
        return super().forward(x_BCHW)
