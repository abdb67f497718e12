"""The request bodies of the OpenAPI document, which FastAPI cannot read off a route that takes two kinds."""

from typing import Any

from omnialpha.apps.server.schemas import EXAMPLE_PICTURE, TaskOptions, TaskRequest


def _form_schema() -> dict[str, Any]:
    schema = TaskOptions.model_json_schema()
    image = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "Picture files in order."}
    return schema | {"title": "TaskForm", "properties": {"image": image, **schema["properties"]}}


_ONE = {"images": [EXAMPLE_PICTURE], "seed": 1}

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": TaskRequest.model_json_schema(),
                "examples": {
                    "matting": {"summary": "Cut out the foreground (matting_auto)", "value": _ONE},
                    "layers": {
                        "summary": "Take a picture apart into a PSD (decomposition_auto)",
                        "value": {**_ONE, "layers": 2, "format": "psd"},
                    },
                    "text": {"summary": "Draw something (text_to_image)", "value": {"text": "a red kite", "seed": 7}},
                    "several": {
                        "summary": "Two pictures at once, results in JSON (removal_auto)",
                        "value": {"images": [[EXAMPLE_PICTURE], [EXAMPLE_PICTURE]], "response": "json"},
                    },
                },
            },
            "multipart/form-data": {"schema": _form_schema()},
        },
    }
}
"""`openapi_extra` of the routes that take pictures."""
