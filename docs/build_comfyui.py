"""Run ComfyUI's example workflows without ComfyUI and draw them: docs/images/comfyui_*.png.

    python docs/build_comfyui.py [--model nano]

Each workflow in src/omnialpha/apps/comfyui/workflows is a graph as ComfyUI saves it. Its nodes are run in order, those
of ComfyUI itself by the few lines below, and drawn where they stand, with the pictures that they load or show.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from omnialpha.apps.comfyui.convert import to_pictures
from omnialpha.apps.comfyui.install import WORKFLOWS
from omnialpha.apps.comfyui.nodes import NODE_CLASS_MAPPINGS, Save
from omnialpha.imaging.rgba import save_png

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "examples" / "images"
TITLE = 30  # pixels above a node's position, as ComfyUI draws it
SHOWN = 110  # height of a picture on a node
GREY, DARK, LIGHT = (53, 53, 53), (34, 34, 34), (210, 210, 210)
COLOURS = {"IMAGE": (100, 178, 255), "MASK": (129, 199, 132), "OMNIALPHA_MODEL": (178, 157, 219),
           "OMNIALPHA_LAYERS": (255, 183, 77)}  # fmt: skip


def load_image(image: str, _: str) -> tuple[torch.Tensor, torch.Tensor]:
    """ComfyUI's "Load Image": colours, and 1 − alpha, or 64² zeros for an opaque picture."""
    with Image.open(IMAGES / image) as file:
        rgba = torch.from_numpy(np.asarray(file.convert("RGBA"), np.float32) / 255)[None]
        opaque = "A" not in file.getbands()
    return rgba[..., :3], torch.zeros(1, 64, 64) if opaque else 1 - rgba[..., 3]


BUILT_IN: dict[str, Callable[..., tuple[Any, ...]]] = {
    "LoadImage": load_image,
    "ImageToMask": lambda image, channel: (image[..., ["red", "green", "blue", "alpha"].index(channel)],),
    "JoinImageWithAlpha": lambda image, alpha: (torch.cat([image, 1 - alpha[..., None]], dim=-1),),
    "PreviewImage": lambda images: (),
}
"""What the workflows use of ComfyUI's own nodes."""


def arguments(node: dict[str, Any], results: dict[int, tuple[Any, ...]], graph: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a node by name: links first, then its widgets in the order in which the node declares them."""
    links = {link[0]: link for link in graph["links"]}
    linked = {
        entry["name"]: results[links[entry["link"]][1]][links[entry["link"]][2]]
        for entry in node["inputs"]
        if entry["link"] is not None
    }
    kind = NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
    declared = kind["required"] | kind.get("optional", {})
    sockets = {entry["name"] for entry in node["inputs"]}
    values = iter(node["widgets_values"])
    for name, (_, *options) in declared.items():
        if name not in sockets:
            linked[name] = next(values)
            if options and options[0].get("control_after_generate"):
                next(values)  # the page's own widget: whether the seed changes after a run
    assert next(values, None) is None, f"{node['type']}: more widgets than inputs"
    return linked


def run(graph: dict[str, Any], model: str) -> tuple[dict[int, tuple[Any, ...]], dict[int, list[Image.Image]]]:
    """Run a graph.

    Returns:
        The results of each node, and the pictures that some of them show.
    """
    results: dict[int, tuple[Any, ...]] = {}
    shown: dict[int, list[Image.Image]] = {}
    for node in sorted(graph["nodes"], key=lambda node: node["order"]):
        number, kind = node["id"], node["type"]
        if kind in BUILT_IN:
            links = {link[0]: link for link in graph["links"]}
            found = [results[links[entry["link"]][1]][links[entry["link"]][2]] for entry in node["inputs"]]
            results[number] = BUILT_IN[kind](*found, *node["widgets_values"])
            if kind in ("LoadImage", "PreviewImage"):
                shown[number] = to_pictures((found or results[number])[0])
            continue
        given = arguments(node, results, graph)
        if kind == "OmniAlphaLoad":
            given["name"] = model
        if NODE_CLASS_MAPPINGS[kind] is Save:  # only ComfyUI knows where to
            shown[number] = [stack.flatten() for stack in given["layers"]]
            continue
        results[number] = NODE_CLASS_MAPPINGS[kind]().run(**given)
    return results, shown


def draw(graph: dict[str, Any], shown: dict[int, list[Image.Image]]) -> Image.Image:
    """The graph as ComfyUI lays it out, over its dark background."""
    right = max(node["pos"][0] + node["size"][0] for node in graph["nodes"])
    bottom = max(node["pos"][1] + node["size"][1] for node in graph["nodes"])
    canvas = Image.new("RGBA", (right + 20, bottom + TITLE + 20), DARK)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    nodes = {node["id"]: node for node in graph["nodes"]}

    def socket(node: dict[str, Any], slot: int, *, out: bool) -> tuple[int, int]:
        return node["pos"][0] + (node["size"][0] if out else 0), node["pos"][1] + TITLE + 14 + 20 * slot

    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        y += TITLE
        pen.rounded_rectangle((x, y - 24, x + width, y + height - 24), 6, GREY)
        pen.text((x + 10, y - 19), node["type"].replace("OmniAlpha", "OmniAlpha "), "white", font)
        for out, entries in ((False, node["inputs"]), (True, node["outputs"])):
            for slot, entry in enumerate(entries):
                sx, sy = socket(node, slot, out=out)
                pen.ellipse((sx - 4, sy - 4, sx + 4, sy + 4), COLOURS[entry["type"]])
                pen.text((sx + (-9 if out else 9), sy), entry["name"], LIGHT, font, anchor="rm" if out else "lm")
        line = y + 30 + 20 * max(len(node["inputs"]), len(node["outputs"]))
        for value in node["widgets_values"]:
            if value not in ("", "fixed", "image"):
                pen.text((x + 18, line), str(value)[:34], LIGHT, font)
                line += 17
        left = x + 10
        for picture in shown.get(node["id"], []):
            small = picture.convert("RGBA")
            small.thumbnail((width - 20, SHOWN))
            squares = Image.fromarray((np.indices((small.height, small.width)) // 8).sum(0).astype(np.uint8) % 2 * 60)
            board = squares.point(lambda value: 195 + value).convert("RGBA")
            canvas.paste(Image.alpha_composite(board, small), (left, line + 8))
            left += small.width + 6
    for _, source, slot, target, place, kind in graph["links"]:
        (ax, ay), (bx, by) = socket(nodes[source], slot, out=True), socket(nodes[target], place, out=False)
        t = np.linspace(0, 1, 40)
        bend = max(40, abs(bx - ax) / 2)
        xs = (1 - t) ** 3 * ax + 3 * (1 - t) ** 2 * t * (ax + bend) + 3 * (1 - t) * t**2 * (bx - bend) + t**3 * bx
        ys = (1 - t) ** 2 * (1 + 2 * t) * ay + t**2 * (3 - 2 * t) * by
        pen.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), COLOURS[kind], 2)
    return canvas.convert("RGB")


def main() -> None:
    """Run and draw all workflows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    model = parser.parse_args().model
    for file in sorted(WORKFLOWS.glob("*.json")):
        graph = json.loads(file.read_text(encoding="utf-8"))
        picture = draw(graph, run(graph, model)[1]).quantize(128)
        save_png(picture, ROOT / "docs" / "images" / f"comfyui_{file.stem}.png", overwrite=True)


if __name__ == "__main__":
    main()
