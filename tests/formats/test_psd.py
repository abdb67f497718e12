"""PSD: what other programs see in our files, and what we see in theirs."""

import io
import json
import logging
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, Compression, Resource
from psd_tools.psd.image_resources import ImageResource

from omnialpha.errors import ImageError, OutputError
from omnialpha.formats import psb, psd
from omnialpha.imaging.colour import is_srgb
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack


@pytest.fixture
def written(tmp_path: Path) -> Path:
    psd.write(sample_stack(), tmp_path / "a.psd")
    return tmp_path / "a.psd"


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def test_pillow_sees_the_merged_picture(written: Path) -> None:
    merged, flat = Image.open(written), sample_stack().flatten()
    assert merged.mode == "RGBA"
    assert difference(merged.convert("RGB"), _over_white(flat).convert("RGB")) <= 1
    assert difference(merged.getchannel("A"), flat.getchannel("A")) == 0


def test_psd_tools_composes_the_layers_to_the_merged_picture(written: Path) -> None:
    document, flat = PSDImage.open(written), sample_stack().flatten()
    for picture in (document.topil(), document.composite(force=True)):  # the merged one; rendered from the layers
        assert picture is not None
        assert difference(_over_white(picture.convert("RGBA")), _over_white(flat)) <= 1
    assert [layer.kind for layer in document] == ["pixel"] * 4
    assert not any(layer.has_mask() for layer in document)


def _image_magick() -> str | None:
    for command in ("magick", "convert-im6.q16", "convert"):
        if shutil.which(command):
            version = subprocess.run([command, "-version"], capture_output=True, check=False).stdout
            if b"Version: ImageMagick" in version:
                return command
    return None


@pytest.mark.skipif(_image_magick() is None, reason="needs ImageMagick")
def test_imagemagick_sees_every_layer(written: Path, tmp_path: Path) -> None:
    stack = sample_stack()
    for number in range(4):
        command = [str(_image_magick()), f"{written}[{number}]", "-depth", "8", str(tmp_path / f"{number}.png")]
        assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    assert difference(_over_white(Image.open(tmp_path / "0.png").convert("RGBA")), _over_white(stack.flatten())) <= 1
    # Opacity is applied by ImageMagick, so the layers that have full opacity are compared.
    for number, layer in ((1, stack[0]), (3, stack[2])):
        pixels, alpha = np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGBA")), layer.image.getchannel("A")
        visible = np.asarray(alpha) > 0
        np.testing.assert_array_equal(pixels[visible], np.asarray(layer.image)[visible])


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_exiftool_sees_names_and_provenance(written: Path) -> None:
    output = subprocess.run(["exiftool", "-json", str(written)], capture_output=True, check=True).stdout
    facts = json.loads(output)[0]
    assert facts["LayerUnicodeNames"] == ["background", "玻璃杯 «glass»", "hidden", "glow"]
    assert facts["LayerVisible"] == ["Yes", "Yes", "No", "Yes"]
    # ExifTool decodes JSON inside XMP itself.
    provenance = facts["Metadata"] if isinstance(facts["Metadata"], dict) else json.loads(facts["Metadata"])
    assert provenance["prompt"] == 'a <glass> & "more"'


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_a_flat_document_is_one_layer(tmp_path: Path, mode: str) -> None:
    image = noise(5, 4, 0).convert("RGB").convert(mode)
    # psd-tools stores the bytes as they are, and in a PSD CMYK counts the paper that is left, not the ink.
    PSDImage.frompil(ImageChops.invert(image) if mode == "CMYK" else image).save(tmp_path / "flat.psd")
    (layer,) = psd.read(tmp_path / "flat.psd")
    assert difference(layer.image, image.convert("RGBA")) == 0


def test_sixteen_bit_layers_are_rounded(tmp_path: Path) -> None:
    document = PSDImage.new("RGB", (4, 4), depth=16)
    samples = np.random.default_rng(0).integers(0, 65536, (4, 4, 4), dtype=np.uint16)
    document.create_pixel_layer_from_array(samples)
    document.save(tmp_path / "deep.psd")
    (layer,) = psd.read(tmp_path / "deep.psd")
    assert np.abs(np.asarray(layer.image).astype(int) - samples / 257).max() <= 1


def test_a_mask_is_applied(tmp_path: Path) -> None:
    """In an RGB document psd-tools turns alpha into a layer mask, the way an editor's user would."""
    image = noise(6, 5, 0)
    document = PSDImage.new("RGB", (12, 12))
    document.create_pixel_layer(image, top=2, left=3)
    document.save(tmp_path / "masked.psd")
    (layer,) = psd.read(tmp_path / "masked.psd")
    assert layer.offset == (3, 2)
    assert difference(layer.image, image) == 0


def test_a_disabled_mask_is_not_applied(tmp_path: Path) -> None:
    document = PSDImage.new("RGB", (6, 5))
    layer = document.create_pixel_layer(noise(6, 5, 0))
    assert layer.mask is not None
    layer.mask.disabled = True
    document.save(tmp_path / "masked.psd")
    assert psd.read(tmp_path / "masked.psd")[0].image.getchannel("A").getextrema() == (255, 255)


def test_an_empty_stack_is_a_transparent_picture(tmp_path: Path) -> None:
    psd.write(LayerStack([], (3, 2)), tmp_path / "empty.psd")
    assert Image.open(tmp_path / "empty.psd").getchannel("A").getextrema() == (0, 0)
    assert psd.read(tmp_path / "empty.psd").flatten().getchannel("A").getextrema() == (0, 0)


def test_layers_without_pixels_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = PSDImage.new("RGBA", (4, 4))
    document.create_pixel_layer(noise(4, 4, 0), name="kept")
    document.create_pixel_layer(Image.new("RGBA", (0, 0)), name="void")
    document.save(tmp_path / "void.psd")
    assert [layer.name for layer in psd.read(tmp_path / "void.psd")] == ["kept"]
    assert 'layer "void" (pixel) has no pixels; left out' in caplog.text


def test_colours_with_a_profile_are_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = noise(4, 4, 0).convert("RGB")
    profile = ImageCms.createProfile("sRGB")
    document = PSDImage.frompil(image)
    # The same colours under another name: sRGB itself would be left alone.
    data = ImageCms.ImageCmsProfile(profile).tobytes().replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    document.image_resources[Resource.ICC_PROFILE] = ImageResource(key=Resource.ICC_PROFILE, data=data)
    document.save(tmp_path / "profile.psd")
    with caplog.at_level(logging.INFO, "omnialpha"):
        stack = psd.read(tmp_path / "profile.psd")
    assert difference(stack[0].image, image.convert("RGBA")) <= 1
    assert "profile.psd: colours are converted from its profile to sRGB" in caplog.text


def test_groups_hand_down_visibility_and_opacity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = PSDImage.new("RGB", (4, 4))
    layers = [document.create_pixel_layer(noise(4, 4, i), name=str(i), opacity=128) for i in range(3)]
    document.create_group(layers[:2], name="outer", opacity=51).visible = False
    document.save(tmp_path / "grouped.psd")
    stack = psd.read(tmp_path / "grouped.psd")
    assert {layer.name: (layer.visible, round(layer.opacity * 255)) for layer in stack} == {
        "0": (False, 26),
        "1": (False, 26),
        "2": (True, 128),
    }
    assert 'the opacity of group "outer" is given to each of its layers' in caplog.text


def test_what_a_layer_cannot_hold_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = PSDImage.new("RGB", (4, 4))
    document.create_pixel_layer(noise(4, 4, 0), name="sun", blend_mode=BlendMode.SCREEN)
    clipped = document.create_pixel_layer(noise(4, 4, 1), name="fog")
    clipped.clipping = True
    document.save(tmp_path / "blended.psd")
    with caplog.at_level(logging.WARNING, "omnialpha"):
        assert len(psd.read(tmp_path / "blended.psd")) == 2
    assert 'layer "sun" blends as "SCREEN"; read as normal' in caplog.text
    assert 'layer "fog" is clipped' in caplog.text


def test_a_damaged_layer_is_an_error_and_not_a_black_picture(tmp_path: Path) -> None:
    document = PSDImage.new("RGB", (30, 30))
    pixels = np.asarray(noise(30, 30, 0))
    document.create_pixel_layer_from_array(pixels, compression=Compression.ZIP)
    document.save(tmp_path / "good.psd")
    assert difference(psd.read(tmp_path / "good.psd")[0].image, noise(30, 30, 0)) == 0
    content = bytearray((tmp_path / "good.psd").read_bytes())
    stream = content.index(zlib.compress(pixels[..., 0].tobytes())[:20])
    content[stream + 20 : stream + 60] = bytes(40)
    (tmp_path / "bad.psd").write_bytes(content)
    with pytest.raises(ImageError, match="bad.psd: cannot be read"):
        psd.read(tmp_path / "bad.psd")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6])
def test_a_truncated_document_is_refused(written: Path, tmp_path: Path, share: float) -> None:
    content = written.read_bytes()
    (tmp_path / "cut.psd").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="^[^\n]*cut.psd: cannot be read[^\n]*$"):
        psd.read(tmp_path / "cut.psd")


@pytest.mark.parametrize("content", [b"8BPS", b"not a psd at all", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.psd").write_bytes(content)
    with pytest.raises(ImageError, match="^[^\n]*odd.psd: cannot be read[^\n]*$"):
        psd.read(tmp_path / "odd.psd")


def test_a_canvas_too_long_for_the_format_is_refused_before_writing(tmp_path: Path) -> None:
    stack = LayerStack([Layer(Image.new("RGBA", (1, 1)))], (30_001, 1))
    with pytest.raises(OutputError, match="at most 30000 pixels wide and high; save as .psb, .ora or a folder"):
        psd.write(stack, tmp_path / "long.psd")
    assert list(tmp_path.iterdir()) == []


def test_notes_of_other_programs_are_not_ours(tmp_path: Path) -> None:
    psd.write(LayerStack([Layer(noise(3, 3, 0))]), tmp_path / "a.psd")
    assert psd.read(tmp_path / "a.psd").metadata == {}
    content = io.BytesIO()
    PSDImage.frompil(Image.new("RGB", (1, 1))).save(content)
    (tmp_path / "b.psd").write_bytes(content.getvalue())
    assert psd.read(tmp_path / "b.psd").metadata == {}


def test_a_psb_is_the_same_document_in_the_larger_format(tmp_path: Path) -> None:
    psb.write(sample_stack(), tmp_path / "a.psb")
    document = PSDImage.open(tmp_path / "a.psb")
    assert document.version == 2
    picture = document.composite(force=True)
    assert difference(_over_white(picture.convert("RGBA")), _over_white(sample_stack().flatten())) <= 1
    psd.write(sample_stack(), tmp_path / "a.psd")
    assert psb.read(tmp_path / "a.psb").layers == psd.read(tmp_path / "a.psd").layers
    with pytest.raises(OutputError, match="a PSB is at most 300000 pixels wide and high; save as .ora or a folder"):
        psb.write(LayerStack([Layer(Image.new("RGBA", (1, 1)))], (300_001, 1)), tmp_path / "long.psb")


def test_profile_and_resolution_are_photoshops_own(tmp_path: Path) -> None:
    psd.write(LayerStack([Layer(noise(4, 4, 0))], metadata={"dpi": [300.0, 150.5]}), tmp_path / "a.psd")
    resources = PSDImage.open(tmp_path / "a.psd").image_resources
    assert is_srgb(resources.get_data(Resource.ICC_PROFILE))
    stated = resources.get_data(Resource.RESOLUTION_INFO)
    assert (stated.horizontal / 65536, stated.vertical / 65536) == (300, 150.5)
    document = PSDImage.open(tmp_path / "a.psd")
    del document.image_resources[Resource.XMP_METADATA]
    document.save(tmp_path / "b.psd")
    assert psd.read(tmp_path / "b.psd").metadata == {"dpi": [300.0, 150.5]}
