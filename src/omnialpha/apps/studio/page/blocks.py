"""The parts of the page joined with the actions that they start, and the page put into an application."""

import os
from typing import Any

import gradio as gr
from PIL import Image

from omnialpha.apps.studio.examples import FOLDER
from omnialpha.apps.studio.history import History, Visit
from omnialpha.apps.studio.page.answer import Answer
from omnialpha.apps.studio.page.layout import SAVE_FILE, TO_STATUS, Page, layout, part
from omnialpha.apps.studio.page.question import Question
from omnialpha.apps.studio.runs import Run
from omnialpha.models.profile import Profile

_HOUR = 3600
_FONT = ["system-ui", "sans-serif"]  # of the machine: nothing is fetched


NO_PICTURE = "this file is no picture that can be read; check that it is complete, or convert it to PNG"


class _Blocks(gr.Blocks):
    """A page that says what is wrong with a dropped file: Gradio opens it before any of our code can."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """As Gradio does, with an error for people."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # some versions wrap what Pillow raised
            if isinstance(error.__cause__ or error, OSError | Image.DecompressionBombError):
                raise gr.Error(NO_PICTURE, title="Not a picture", print_exception=False) from error
            raise


def build(run: Run, profile: Profile, history: History) -> gr.Blocks:
    """Make the page.

    Args:
        run: Does the work.
        profile: Of the model: its defaults.
        history: Where results are kept; its folder also holds what visitors upload.
    """
    # Gradio reads it when parts are made: uploads lie where all other files of the studio are, and end with them.
    os.environ["GRADIO_TEMP_DIR"] = str(history.folder / "uploads")
    with _Blocks(
        title="omnialpha studio", analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, 24 * _HOUR)
    ) as blocks:
        page = layout(gr.State(Visit(), delete_callback=lambda gone: history.forget(gone.keys)), profile)
        question = Question(page, profile, history)
        connect(page, question, Answer(page, question, run, history))
    return blocks


def connect(page: Page, question: Question, answer: Answer) -> None:
    """Let the parts of the page start the actions."""
    p = page
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    needed = question.parts()
    ways = list(p.ways.values())
    backdrop = {p.backdrop, p.colour, p.own}
    look = [p.status, p.view, p.slider]
    run: dict[str, Any] = {
        "fn": answer.start,
        "inputs": {p.visit, p.family, *ways, p.paint, p.seed, p.fresh, p.sharp, *backdrop, *needed}
        - {p.painting},  # which has no value
        "outputs": [*look, p.rows, p.start, p.cancel, p.result, p.history, p.past, p.seed],
        "concurrency_limit": None,  # the service has the queue
        **quiet,
    }
    filled = [p.status, p.family, *ways, p.seed, *needed]

    p.family.input(question.choose_family, {p.family, *ways}, [p.status, *ways, *needed], **quiet)
    for way in ways:
        way.input(question.choose_way, [way], [p.status, *needed], **quiet)
    p.picture.change(question.take_picture, [p.picture], [p.status, p.paint], **quiet)
    p.start.click(**run)
    p.start.click(None, js=TO_STATUS)
    p.examples.select(None, js=TO_STATUS)
    p.cancel.click(answer.cancel, [p.visit], [p.status], queue=False, **quiet)
    p.examples.select(question.fill_example, None, filled, **quiet).then(**run)
    for changed in (p.backdrop.input, p.colour.change, p.own.change):
        changed(answer.change_backdrop, {p.visit, *backdrop}, [*look, p.colour, p.own], **quiet)
    # Gradio would drop changes that come while it is busy with one.
    p.rows.input(answer.arrange, {p.visit, *backdrop}, look, trigger_mode="multiple", **quiet)
    p.save.click(answer.save, {p.visit, p.format}, [p.status, p.file], **quiet).then(None, js=SAVE_FILE)
    p.history.select(answer.show_again, {p.visit, *backdrop}, [*look, p.rows], **quiet)
    p.again.click(question.fill_again, [p.visit], filled, **quiet)


def mount(app: Any, blocks: gr.Blocks, max_upload: int) -> Any:
    """Serve the page at / of an application.

    Args:
        app: A FastAPI application; its own routes come first.
        blocks: The page.
        max_upload: Megabytes of a file.

    Returns:
        The application.
    """
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,  # Gradio would keep all runs in the browser
        allowed_paths=[str(FOLDER)],
        show_error=False,
        max_file_size=f"{max_upload}mb",
        enable_monitoring=False,
        theme=gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono=["monospace"]),
        css=part("studio.css"),
        head=f"<style>{part('frame.css')}</style>",
        pwa=False,
        mcp_server=False,
        ssr_mode=False,
    )
