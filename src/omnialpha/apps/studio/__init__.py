"""The studio: a page in the browser for all tasks, in one process with the HTTP service.

    choices.py   families and ways of asking → 21 tasks    page.py      the parts of the page
    guides.py    brush strokes → mask or trimap            question.py  the left side in use: what to do, with what
    arrange.py   order, names, opacity of layers           answer.py    the right side in use: run, look, arrange, save
    view.py      what is shown; backdrops                  telling.py   progress and errors as a line
    history.py   results, within a memory limit            app.py       page and service as one application
    download.py  a result as a file                        examples.py  pictures to try
    runs.py      a run with progress and cancel            command.py   `omnialpha studio`

Only `page`, `question`, `answer` and `app` import Gradio, which takes seconds.
"""
