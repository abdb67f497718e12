"""The studio: a page in the browser for all tasks, in one process with the HTTP service.

page/        what is seen and used                     runs.py      a run with progress and cancel
choices.py   families and ways of asking → 21 tasks    history.py   results, within a memory limit
guides.py    brush strokes → mask or trimap            download.py  a result as a file
arrange.py   order, names, opacity of layers           telling.py   progress and errors as a line
view.py      what is shown; backdrops                  examples.py  pictures to try
command.py   `omnialpha studio`
"""
