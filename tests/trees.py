"""Tiny data sets in the layouts that `omnialpha.data.sources` reads; pictures of 24 × 20 pixels, drawn with NumPy."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 20


def soft_disk(seed: int = 0) -> np.ndarray:
    """Alpha (H, W) in [0, 1]: a disk with a soft rim, elsewhere for another seed."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre = 8 + seed % 5, 9 + seed % 4
    return np.clip(6.5 - np.hypot(y - centre[0], x - centre[1]), 0, 1)


def colours(seed: int = 0) -> np.ndarray:
    """RGB (H, W, 3) in [0, 1]: a gradient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return rng.random(3) * 0.4 + np.dstack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)]) * 0.6


def composite(seed: int = 0) -> np.ndarray:
    """The disk in one gradient over another."""
    alpha = soft_disk(seed)[..., None]
    return alpha * colours(seed) + (1 - alpha) * colours(seed + 100)


def trimap(seed: int = 0) -> np.ndarray:
    """0, 128 and 255 (H, W): the rim of the disk is unknown."""
    alpha = soft_disk(seed)
    return np.where(alpha >= 1, 255, np.where(alpha <= 0, 0, 128)).astype(np.uint8)


def save(array: np.ndarray, path: Path) -> Path:
    """Write floats in [0, 1], uint8 or uint16 as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _image(array).save(path, quality=95)
    return path


def save_multichannel(alpha: np.ndarray, path: Path) -> Path:
    """Write alpha as the red channel of a picture whose other channels differ, as a few masks of AIM-500 are."""
    return save(np.dstack([alpha, np.zeros_like(alpha), 1 - alpha]), path)


def cutout(seed: int = 0) -> np.ndarray:
    """RGBA (H, W, 4) in [0, 1]."""
    return np.dstack([colours(seed), soft_disk(seed)])


def make_aim500(root: Path, names: tuple[str, ...] = ("o_01", "o_02")) -> Path:
    return _parallel(root, names, {"original/{}.jpg": composite, "mask/{}.png": soft_disk, "trimap/{}.png": trimap})


def make_refmatte_rw100(root: Path) -> Path:
    labels = {}
    for seed, (image, count) in enumerate({"p_1": 2, "p_2": 1}.items()):
        save(composite(seed), root / f"image/{image}.jpg")
        for k in range(count):
            save(soft_disk(seed + k), root / f"mask/{image}_{k}.png")
            labels[f"{image}_{k}"] = {
                "image_name": image,
                "expressions": [f"{image} {k} wording {e}" for e in range(4)],
            }
    (root / "refmatte_rw100_label.json").write_text(json.dumps(labels))
    (root / "eval_index_expression.json").write_text(json.dumps({"p_1": 2, "p_2": 0}))
    return root


def make_rord(root: Path, *, inverted: bool = False, split: str = "test", count: int = 3) -> Path:
    def mask(seed: int) -> np.ndarray:
        opaque = soft_disk(seed) >= 0.5
        return np.where(opaque ^ inverted, 255, 0).astype(np.uint8)

    names = tuple(f"{number:04d}" for number in range(count))
    files = {"img/{}.jpg": composite, "gt/{}.jpg": lambda seed: colours(seed + 100), "mask/{}.png": mask}
    return _parallel(root / split, names, files).parent


def make_crello(root: Path, depths: tuple[int, ...] = (3, 2)) -> Path:
    for design, depth in enumerate(depths):
        folder = root / f"layers/design{design}"
        save(np.dstack([colours(design), np.ones((HEIGHT, WIDTH))]), folder / "0000.png")
        for number in range(1, depth):
            save(cutout(design + number), folder / f"{number:04d}.png")
    return root


def make_adobe(root: Path) -> Path:
    files: dict[str, Callable[[int], np.ndarray]] = {"fg/{}.jpg": colours, "alpha/{}.jpg": soft_disk}
    for part, names in (("Adobe-licensed images", ("boy", "cat")), ("Other", ("boy",))):
        _parallel(root / "Training_set" / part, names, files)
    _parallel(root / "Test_set/Adobe-licensed images", ("net",), files | {"trimaps/{}_0.png": trimap})
    return root


def make_am2k(root: Path) -> Path:
    base: dict[str, Callable[[int], np.ndarray]] = {"original/{}.jpg": composite, "mask/{}.png": soft_disk}
    layers: dict[str, Callable[[int], np.ndarray]] = {"fg/{}.png": colours, "bg/{}.png": lambda s: colours(s + 100)}
    _parallel(root / "train", ("m_1", "m_2"), base | layers)
    _parallel(root / "validation", ("m_9",), base | {"trimap/{}.png": trimap})
    return root


def make_distinctions646(root: Path) -> Path:
    for split, names in (("Train", ("a", "b")), ("Test", ("c",))):
        _parallel(root / split, names, {"FG/{}.png": colours, "GT/{}.png": soft_disk})
    return root


def make_p3m500np(root: Path, base: str = "validation/P3M-500-NP") -> Path:
    files = {"original_image/{}.jpg": composite, "mask/{}.png": soft_disk, "trimap/{}.png": trimap}
    _parallel(root / base, ("p_1", "p_2"), files)
    return root


def make_photomatte85(root: Path) -> Path:
    return _parallel(root, ("000", "001"), {"{}.png": cutout})


def make_rwp636(root: Path) -> Path:
    return _parallel(root, ("w1", "w2"), {"image/{}.jpg": composite, "alpha/{}.png": soft_disk})


def make_simd(root: Path) -> Path:
    for name in ("fire", "Glass ball"):
        _parallel(root / "generated_testset" / name, ("x",), {"merged/{}.png": composite, "alpha/{}.png": soft_disk})
    return root


def make_transparent460(root: Path) -> Path:
    for split, names in (("Train", ("t1", "t2")), ("Test", ("t3",))):
        files = {"fg/{}.jpg": colours, "alpha/{}.png": soft_disk, "trimap/{}.png": trimap}
        _parallel(root / split, names, files)
    return root


def make_folder(root: Path, *, images: str = "image", alphas: str = "alpha") -> Path:
    return _parallel(root, ("one", "two"), {f"{images}/{{}}.jpg": composite, f"{alphas}/{{}}.png": soft_disk})


def make_cutouts(root: Path) -> Path:
    """RGBA pictures in one folder, the first with a caption beside it."""
    _parallel(root, ("ball", "disk"), {"{}.png": cutout})
    (root / "ball.txt").write_text("a glass ball\n")
    return root


def make_ober(root: Path) -> Path:
    """Two parquet files of two rows, each row a row group of its own; the last one, of OBER-Wild, has no `gt`."""
    subsets = ("OBER-Test", "OBER-Test", "OBER-Test", "OBER-Wild")
    rows = [
        {
            "input": _stored(composite(seed), f"{seed:04d}_0.jpg"),
            "gt": None if subset == "OBER-Wild" else _stored(colours(seed + 100), f"{seed:04d}_0.png"),
            "object_mask": _stored(soft_disk(seed) > 0.5, "m.png"),
            "object_effect_mask": _stored(soft_disk(seed) > 0, "e.png"),
            "subset": subset,
            "split": "train" if seed == 0 else "test",
        }
        for seed, subset in enumerate(subsets)
    ]
    _write_parquet(rows[:2], root / "data/train-00000-of-00002.parquet")
    _write_parquet(rows[2:], root / "data/test-00000-of-00001.parquet")
    return root


def make_prismlayers(root: Path) -> Path:
    """A picture of two layers cut to their boxes, and one of a single layer."""
    crop = cutout()[2:16, 3:17]
    row = {
        "whole_image": _stored(composite()),
        "whole_caption": "a disk twice",
        "base_image": _stored(np.dstack([colours(9), np.ones((HEIGHT, WIDTH))])),
        "base_caption": "a gradient",
        "layer_count": 2,
        "layer_00": _stored(crop),
        "layer_00_caption": "a disk",
        "layer_00_box": [3, 2, 17, 16],
        "layer_01": _stored(crop),
        "layer_01_caption": "another disk",
        "layer_01_box": [15, 10, 29, 24],
    }
    single = row | {"layer_count": 1, "layer_01": None, "layer_01_caption": None, "layer_01_box": None}
    _write_parquet([row, single], root / "data/toy-00000-of-00001.parquet")
    return root


def _parallel(root: Path, names: tuple[str, ...], files: Mapping[str, Callable[[int], np.ndarray]]) -> Path:
    """Write one picture per name and pattern."""
    for seed, name in enumerate(names):
        for pattern, draw in files.items():
            save(draw(seed), root / pattern.format(name))
    return root


def _image(array: np.ndarray) -> Image.Image:
    if array.dtype not in (np.uint8, np.uint16):
        array = np.rint(array * 255).astype(np.uint8)
    return Image.fromarray(array)


def _stored(array: np.ndarray, name: str | None = None) -> dict[str, object]:
    """A picture as `datasets` stores it in a parquet file."""
    stream = io.BytesIO()
    _image(array).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": name}


def _write_parquet(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=1)
