"""The HTTP service: a queue on disk, one worker that batches, and a FastAPI application around them.

    app.py        routes and error answers          schemas.py    what requests and answers look like
    uploads.py    request bodies → pictures         answers.py    layer stacks → files, zip, multipart, JSON
    service.py    submit, follow, result, cancel    worker.py     claims jobs, calls the pipeline
    store.py      jobs in SQLite, pictures beside   jobs.py       the records they pass around
    settings.py   limits                            problems.py   errors with a status
    metrics.py    Prometheus

`app.create_app(model, settings)` is all that an ASGI server needs; `service.Service` is the same without HTTP.
"""
