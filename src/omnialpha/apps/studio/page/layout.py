"""The page: its parts from top to bottom, and which action each of them starts. Importing this takes seconds."""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import gradio as gr
from PIL import Image

from omnialpha.apps.studio import download, guides
from omnialpha.apps.studio.choices import FAMILIES, ways
from omnialpha.apps.studio.examples import EXAMPLES
from omnialpha.apps.studio.view import data_uri, thumbnail
from omnialpha.imaging import rgba
from omnialpha.models.profile import Profile
from omnialpha.tasks import TASKS, Task

_PARTS = resources.files("omnialpha.apps.studio.page") / "parts"

LEGEND = (
    f'<div id="legend"><i style="background:{guides.OBJECT}"></i><b>blue</b>: the object &nbsp; '
    f'<i style="background:{guides.UNSURE}"></i><b>orange</b>: unsure, as the edge of hair, fur or glass</div>'
)
BACKDROPS = [
    ("Checkerboard", "checkerboard"),
    ("Black", "black"),
    ("White", "white"),
    ("Colour", "colour"),
    ("Picture", "picture"),
]
TO_STATUS = "() => { if (innerWidth < 700) document.getElementById('status').scrollIntoView({behavior: 'smooth'}); }"
"""On a phone the answer lies far below the question."""

SAVE_FILE = "() => document.querySelector('#file a, #file button, a#file, button#file')?.click()"
HIGH, LOW = 260, 150
"""Heights of a place for a picture, in pixels."""

SHELF = 240
"""Side of the pictures to choose from, in pixels."""

FIRST = next(iter(FAMILIES))


@dataclass(frozen=True, kw_only=True)
class Page:
    """The parts of the page that actions read or change; ``ways`` has one for each family with a choice."""

    visit: Any
    family: Any
    ways: dict[str, Any]
    picture: Any
    cutouts: Any
    painting: Any
    paint: Any
    guide: Any
    text: Any
    layers: Any
    seed: Any
    fresh: Any
    steps: Any
    guidance: Any
    sharp: Any
    start: Any
    cancel: Any
    examples: Any
    status: Any
    result: Any
    view: Any
    slider: Any
    backdrop: Any
    colour: Any
    own: Any
    rows: Any
    format: Any
    save: Any
    file: Any
    past: Any
    history: Any
    again: Any

    def task(self, values: dict[Any, Any]) -> Task:
        """The task that is chosen.

        Args:
            values: Of the parts.
        """
        family = values[self.family]
        return TASKS[values[self.ways[family]] if family in self.ways else ways(family)[0].task]


def part(name: str) -> str:
    """A file of the page: template, style or script."""
    return (_PARTS / name).read_text(encoding="utf-8")


def layout(visit: Any, profile: Profile) -> Page:
    """Make the parts, inside ``gr.Blocks``.

    Args:
        visit: State that holds what the page remembers of a visitor.
        profile: Of the model, for the first values of steps and guidance.
    """
    parts: dict[str, Any] = {"visit": visit}
    gr.HTML('<div id="head"><h1>omnialpha studio</h1><p>Pictures in layers, with real transparency</p></div>')
    parts["family"] = gr.Radio(
        [(label, category) for category, label in FAMILIES.items()],
        value=FIRST,
        show_label=False,
        elem_classes="strip",
        elem_id="family",
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            parts |= _question(profile)
        with gr.Column(scale=3, min_width=320):
            parts |= _answer()
    parts |= _shelf()
    return Page(**parts)


def shelf_item(picture: Image.Image, caption: str) -> dict[str, str]:
    """An entry of a row of pictures to choose from."""
    return {"src": data_uri(thumbnail(picture, SHELF)), "caption": caption}


def _shelf_of(title: str, name: str, items: list[dict[str, str]]) -> Any:
    return gr.HTML(
        items,
        html_template=part("shelf.html").replace("{{title}}", title),
        css_template=part("shelf.css"),
        apply_default_css=False,
        js_on_load=part("shelf.js"),
        elem_id=name,
    )


def _picture(label: str, name: str, *, height: int, visible: bool = True) -> Any:
    """A place for one picture, handed on as the file that was dropped: colours and orientation are ours to read."""
    return gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        label=label,
        height=height,
        visible=visible,
        elem_id=name,
        buttons=[],
    )


def _question(profile: Profile) -> dict[str, Any]:
    """The left side: what to do, with what."""
    parts: dict[str, Any] = {}
    # A part for each family: Gradio refuses values that are not among the choices which it remembers of a part.
    parts["ways"] = {
        family: gr.Radio(
            [(way.label, way.task) for way in ways(family)],
            value=ways(family)[0].task,
            label="What do you have?" if family == "completion" else "How to find the object",
            visible=family == FIRST,
            elem_classes="strip",
            elem_id=f"way-{family}",
        )
        for family in FAMILIES
        if len(ways(family)) > 1
    }
    parts["picture"] = _picture("Picture", "picture", height=HIGH)
    parts["cutouts"] = gr.Gallery(
        label="Cut-outs",
        type="filepath",
        file_types=["image"],
        sources=["upload", "clipboard"],
        interactive=True,
        visible=False,
        height=220,
        columns=3,
        object_fit="contain",
        elem_id="cutouts",
    )
    with gr.Column(visible=False) as parts["painting"]:
        gr.HTML(LEGEND)
        parts["paint"] = gr.ImageEditor(
            label="Paint over the object",
            type="pil",
            format="png",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(
                colors=[(guides.OBJECT, guides.OPACITY), (guides.UNSURE, guides.OPACITY)],
                default_color=(guides.OBJECT, guides.OPACITY),
                color_mode="fixed",
            ),
            height=420,
            elem_id="paint",
            buttons=["fullscreen"],
        )
    parts["guide"] = _picture("Finished guide", "guide", height=LOW, visible=False)
    parts["text"] = gr.Textbox(label="Description", visible=False, max_length=2000, elem_id="text")
    parts["layers"] = gr.Slider(2, 8, value=2, step=1, label="Number of layers", elem_id="layers")
    with gr.Accordion("Seed, steps, guidance", open=False, elem_id="settings"):
        with gr.Row():
            parts["seed"] = gr.Number(value=0, precision=0, minimum=0, maximum=2**31, label="Seed", min_width=110)
            parts["fresh"] = gr.Checkbox(label="Another seed each time", value=False, min_width=110)
        parts["steps"] = gr.Slider(1, 100, value=profile.steps, step=1, label="Steps")
        parts["guidance"] = gr.Slider(1, 10, value=profile.true_cfg_scale, step=0.1, label="Guidance (1 is off)")
        parts["sharp"] = gr.Checkbox(label="As sharp as the picture, where the model works smaller", value=True)
    with gr.Row():
        parts["start"] = gr.Button("Run", variant="primary", elem_id="start")
        parts["cancel"] = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
    parts["examples"] = _shelf_of(
        "Or try one of these",
        "examples",
        [shelf_item(rgba.read(example.files[0]), example.label) for example in EXAMPLES],
    )
    return parts


def _answer() -> dict[str, Any]:
    """The right side: what came out."""
    parts: dict[str, Any] = {"status": gr.HTML("", elem_id="status")}
    with gr.Tabs():
        with gr.Tab("Picture"):
            parts["view"] = gr.HTML(
                None,
                html_template=part("viewer.html"),
                css_template=part("viewer.css"),
                apply_default_css=False,
                js_on_load=part("viewer.js"),
                elem_id="view",
            )
        with gr.Tab("Before and after"):
            parts["slider"] = gr.ImageSlider(
                type="pil", interactive=False, format="jpeg", label="Before | after", max_height=560, elem_id="slider"
            )
    with gr.Column(visible=False) as parts["result"]:
        parts["backdrop"] = gr.Radio(
            BACKDROPS,
            value="checkerboard",
            label="Background of the view",
            elem_classes="strip",
            elem_id="backdrop",
        )
        parts["colour"] = gr.ColorPicker("#3a7d44", label="Colour", visible=False, elem_id="colour")
        parts["own"] = _picture("Picture behind the layers", "own", height=LOW, visible=False)
        parts["rows"] = gr.HTML(
            [],
            html_template=part("layers.html"),
            css_template=part("layers.css"),
            apply_default_css=False,
            js_on_load=part("layers.js"),
            elem_id="rows",
        )
        with gr.Row():
            parts["format"] = gr.Dropdown(download.choices(), value="psd", label="Format", min_width=180)
            parts["save"] = gr.Button("Download", elem_id="save", min_width=120)
            parts["file"] = gr.DownloadButton("File", visible="hidden", elem_id="file")
    return parts


def _shelf() -> dict[str, Any]:
    """Below both: the results of this visit."""
    parts: dict[str, Any] = {}
    with gr.Column(visible=False) as parts["past"]:
        parts["history"] = _shelf_of("This visit", "history", [])
        parts["again"] = gr.Button("Use the settings of the shown result", size="sm", elem_id="again", scale=0)
    return parts
