"""sRGB's profile: its bytes are always the same, and only sRGB itself is left unconverted."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms

from omnialpha.imaging import rgba
from omnialpha.imaging.colour import SRGB_PROFILE, from_linear, is_srgb, to_linear


def _linear_srgb() -> bytes:
    """The profile with its curves made straight lines, and a name like GIMP's "Linear sRGB" that still says sRGB."""
    at = SRGB_PROFILE.index(b"para")
    straight = struct.pack(">5i", *(round(value * 65536) for value in (1, 1, 0, 1, 0)))  # y = (1·x + 0)^1
    return SRGB_PROFILE[: at + 12] + straight + SRGB_PROFILE[at + 32 :]


def test_the_profile_is_valid_and_carries_no_time() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE))
    assert struct.unpack(">6H", SRGB_PROFILE[24:36]) == (2000, 1, 1, 0, 0, 0)
    image = Image.linear_gradient("L").convert("RGB")
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(converted).astype(int) - np.asarray(image)).max() <= 1


def test_a_linear_profile_is_not_taken_for_srgb_by_its_name() -> None:
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(_linear_srgb())))
    assert not is_srgb(_linear_srgb())
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (55, 55, 55)).save(buffer, "PNG", icc_profile=_linear_srgb())
    assert abs(rgba.read(buffer).getpixel((0, 0))[0] - 128) <= 1  # type: ignore[index]


def test_linear_light_agrees_with_littlecms() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 4, axis=2)
    linear = ImageCms.profileToProfile(
        Image.fromarray(ramp[..., :3]), io.BytesIO(SRGB_PROFILE), io.BytesIO(_linear_srgb())
    )
    ours = to_linear(ramp / np.float32(255))
    assert np.abs(ours[..., :3] * 255 - np.asarray(linear)).max() <= 1
    np.testing.assert_allclose(from_linear(ours), ramp / np.float32(255), atol=1e-6)
