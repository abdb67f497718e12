"""The authors' listing and data files are read as they are; mistakes are named."""

import json

import numpy as np
import pytest
from PIL import Image

from omnialpha.data.authors import entry_groups, parse_jsonc, read_listing
from omnialpha.data.checks import usable
from omnialpha.data.loader import draw_batch
from omnialpha.errors import InputError

LISTING = """
/* The layout of
   the authors' files */
{
    "default_init_params": {
        // "force_size": 512,
    },
    "datasets": {
        "matting": {"data_path": ["m/a.jsonl", "m/b.jsonl"], "image_dir": "m//images"}, // two files
        "layers": {"data_path": "layers.json", "image_dir": "m/images", "class": "TI2IDataset", "begin_with_bg": true},
    },
    "splits": {
        "train": [
            {"dataset": "matting", "ends": -2, "weight": 0.5},
            {"dataset": "layers", "repeat": 2},
        ],
        "valid": [
            {"dataset": "matting", "starts": -2, "ends": -1},
        ],
        "some": [{"dataset": "matting", "sample": {"count": 3, "seed": 1}}],
        "all": [{"dataset": "matting"}, {"dataset": "layers"}],
        "none": [{"dataset": "matting", "starts": 50}],
    }
}
"""


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    root = tmp_path_factory.mktemp("authors")
    (root / "m" / "images").mkdir(parents=True)
    for name, value in (("in", 10), ("bg", 20), ("back", 30), ("front", 40)):
        Image.new("RGBA", (48, 32), (value, value, value, 255)).save(root / "m" / "images" / f"{name}.png")
    for name, numbers in (("a", range(4)), ("b", range(4, 6))):
        lines = [
            {"id": f"{n}", "prompt": f"matte {n}", "input_images": ["in.png"], "output_images": ["front.png"]}
            for n in numbers
        ]
        (root / "m" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    layers = {"prompt": "split", "input_images": ["in.png"], "output_images": ["bg.png", "back.png", "front.png"]}
    (root / "layers.json").write_text(json.dumps([layers]))
    (root / "data.jsonc").write_text(LISTING)
    return root / "data.jsonc"


def test_comments_and_commas_go_but_texts_stay() -> None:
    text = '{"a": "/* no */ // comment", "b": "x,]", /* , */ "c": [1, 2, // end\n ],}'
    assert parse_jsonc(text) == {"a": "/* no */ // comment", "b": "x,]", "c": [1, 2]}


def test_a_split_is_put_together_from_slices(listing) -> None:
    train = read_listing(listing)
    assert [(entry.id, entry.weight) for entry in train] == [
        ("0", 0.5), ("1", 0.5), ("2", 0.5), ("3", 0.5), ("layers/0", 1.0), ("layers/0", 1.0)
    ]  # fmt: skip
    assert [entry.id for entry in read_listing(listing, "valid")] == ["4"]
    some = read_listing(listing, "some")
    assert len({entry.id for entry in some}) == 3
    assert read_listing(listing, "some") == some


def test_several_outputs_become_table_1_order(listing) -> None:
    groups = entry_groups(read_listing(listing), area=48 * 32, grid=16)
    layered = next(group for group in groups if group.num_targets == 3)
    example = layered.draw(0, np.random.default_rng(0))
    assert example.prompt == "split"
    assert example.task == "layers"
    assert [round(float(target[0, 0, 0]) * 255) for target in example.targets] == [40, 30, 20]
    assert round(float(example.inputs[0][0, 0, 0]) * 255) == 10
    assert layered.size == (48, 32)


def test_lines_are_drawn_by_their_weights(listing) -> None:
    groups = entry_groups(read_listing(listing), area=16 * 16, grid=16)
    # Four lines of weight 0.5 against one line of weight 1 taken twice.
    assert sorted(group.weight for group in groups) == [2.0, 2.0]
    prompts = {example.prompt for step in range(20) for example in draw_batch(groups, seed=0, step=step, batch_size=2)}
    assert prompts == {"matte 0", "matte 1", "matte 2", "matte 3", "split"}


def test_missing_pictures_are_found_before_training(listing, tmp_path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "x", "input_images": ["no.png"], "output_images": ["nor.png"]}\n')
    (tmp_path / "l.jsonc").write_text(
        '{"datasets": {"d": {"data_path": "d.jsonl", "image_dir": "."}}, "splits": {"train": [{"dataset": "d"}]}}'
    )
    assert len(usable(read_listing(listing, "all"), skip_broken=False)) == 7
    with pytest.raises(InputError) as caught:
        usable(read_listing(tmp_path / "l.jsonc"), skip_broken=False)
    assert "no.png: no such file" in str(caught.value)
    assert "nor.png: no such file" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"valid"', '"trian"', "no split 'train'.*did you mean"),
        ('{"dataset": "layers", "repeat": 2}', '{"dataset": "layer"}', "unknown dataset 'layer'.*did you mean"),
        ('"ends": -2, "weight"', '"end": -2, "weight"', "unknown field 'end'.*did you mean"),
        ('"weight": 0.5', '"weight": -1', "weight is a number of 0 or more"),
        ('"repeat": 2', '"repeat": 0.5', "repeat is a whole number"),
        ("TI2IDataset", "Other", "only the class TI2IDataset"),
        ('"image_dir": "m//images"', '"image_dir": ""', "image_dir is missing"),
        ("m/b.jsonl", "m/c.jsonl", "no such file"),
        ('"splits": {', '"splits": [', "changed.jsonc: Expecting"),
    ],
)
def test_mistakes_are_named(listing, old, new, said) -> None:
    changed = listing.with_name("changed.jsonc")
    text = LISTING.replace(old, new)
    if old == '"valid"':
        text = text.replace('"train"', '"tarin"')
    changed.write_text(text)
    with pytest.raises(InputError, match=said):
        read_listing(changed)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "x"', "line 2"),
        ("[1]", "expected a JSON object"),
        ('{"prompt": 1, "input_images": [], "output_images": ["a"]}', "prompt is a text"),
        ('{"prompt": "x", "input_images": "a", "output_images": ["a"]}', "input_images is a list"),
        ('{"prompt": "x", "input_images": [], "output_images": []}', "output_images is empty"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, said) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "x", "input_images": [], "output_images": ["a"]}\n' + line + "\n")
    (tmp_path / "l.jsonc").write_text(
        '{"datasets": {"d": {"data_path": "d.jsonl", "image_dir": "."}}, "splits": {"train": [{"dataset": "d"}]}}'
    )
    with pytest.raises(InputError, match=said) as caught:
        read_listing(tmp_path / "l.jsonc")
    assert "d.jsonl, line 2" in str(caught.value)


def test_an_empty_split_is_refused(listing) -> None:
    with pytest.raises(InputError, match="has no lines"):
        read_listing(listing, "none")
