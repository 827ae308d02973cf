"""The description of both listeners in OpenAPI 3.1.

Of a request it states what the gateway itself checks; other parameters are passed on to the replica untouched,
and the replica judges them. Of an answer it states what clients may rely on whichever replica made it.
"""

from typing import Any

import msgspec

from secondsource import __version__
from secondsource.core.fleet import Fleet
from secondsource.gateway.admin.answers import (
    FleetAnswer,
    Health,
    LanesAnswer,
    PlugAnswer,
    ReplicasAnswer,
    RequestAnswer,
    SuppliersAnswer,
)
from secondsource.gateway.images.job_answers import JobView

Schema = dict[str, Any]

ERROR_TEXTS = {
    400: "The request is wrong; `param` names the parameter.",
    401: "The key is missing or unknown.",
    403: "This `Host` or `Origin` is not answered, or this may only read.",
    404: "There is no such model, path or request.",
    405: "The path does not take this method.",
    408: "The request did not arrive in time.",
    411: "The body's length was not given.",
    413: "The body is over the limit.",
    415: "The body's encoding is not understood.",
    422: "The replica could not process the request.",
    429: "Too much at once; `Retry-After` says when to come back.",
    431: "The headers are over the limit.",
    500: "The gateway failed.",
    501: "The request uses a feature of HTTP that the gateway does not have.",
    502: "No replica could answer.",
    503: "No replica can take the request now; `Retry-After` says when to come back.",
    504: "No replica answered in time.",
}
PUBLIC_ERRORS = (400, 401, 404, 405, 408, 411, 413, 415, 422, 429, 431, 500, 501, 502, 503, 504)
READ_ERRORS = (400, 401, 404, 405, 408, 431)
ADMIN_ERRORS = (400, 401, 403, 404, 405, 500)


def describe(fleet: Fleet, gateway_url: str, admin_url: str) -> Schema:
    """Return the OpenAPI document of a fleet that is served at these addresses."""
    answers = (JobView, RequestAnswer, ReplicasAnswer, LanesAnswer, FleetAnswer, SuppliersAnswer, PlugAnswer, Health)
    _, admin_schemas = msgspec.json.schema_components(answers, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "secondsource",
            "version": __version__,
            "summary": "One OpenAI-compatible model service over many chip suppliers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": gateway_url, "description": "the public listener"}],
        "tags": [{"name": "public"}, {"name": "admin"}],
        "paths": {**_public_paths(fleet), **_admin_paths(fleet, gateway_url, admin_url)},
        "components": {
            "schemas": {**_public_schemas(fleet), **admin_schemas},
            "responses": {str(status): _error_response(status) for status in ERROR_TEXTS},
            "headers": _headers(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _public_paths(fleet: Fleet) -> Schema:
    keyed = bool(fleet.keys)
    answers = {
        "/v1/chat/completions": ("createChatCompletion", "ChatCompletionRequest", "ChatCompletion", True),
        "/v1/completions": ("createCompletion", "CompletionRequest", "Completion", True),
        "/v1/embeddings": ("createEmbedding", "EmbeddingRequest", "Embeddings", False),
        "/v1/images/generations": ("createImage", "ImageRequest", "Images", False),
    }
    paths: Schema = {
        path: {"post": _generation(name, request, answer, streams=streams, keyed=keyed)}
        for path, (name, request, answer, streams) in answers.items()
    }
    paths.update(_image_paths(paths["/v1/images/generations"], keyed=keyed))
    paths["/v1/models"] = {"get": _read("listModels", "The models that are served", _ref("ModelList"), keyed=keyed)}
    paths["/v1/models/{model}"] = {
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
        "get": _read("retrieveModel", "One model", _ref("Model"), keyed=keyed),
    }
    ready = _read("ready", "Whether each model has a replica that can serve", _status("ready"), keyed=False)
    ready["responses"]["503"] = {"$ref": "#/components/responses/503"}
    paths["/ready"] = {"get": ready}
    return paths


def _image_paths(generations: Schema, *, keyed: bool) -> Schema:
    """Return the paths of image jobs."""
    headers = ("x-request-id", "x-secondsource-job", "location", "retry-after", "preference-applied")
    accepted = {
        "description": "The job, to a client that sent `Prefer: respond-async`: ask for it at `Location`.",
        "headers": {header: _header(header) for header in headers},
        "content": {"application/json": {"schema": _ref("JobView")}},
    }
    responses = {**generations["post"]["responses"], "202": accepted}
    streamed = "`image_generation.partial_image` events, then `image_generation.completed` for each image."
    responses["200"]["content"]["text/event-stream"] = {"schema": {"description": streamed}}
    text = "A job as it stands; `result` is what the request would have been answered"
    job = _read("retrieveImageJob", text, _ref("JobView"), keyed=keyed, errors=(*READ_ERRORS, 500))
    parameter = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "/v1/images/generations": {"post": {**generations["post"], "responses": responses}},
        "/v1/images/jobs/{job_id}": {"parameters": [parameter], "get": job},
    }


def _generation(name: str, request: str, answer: str, *, streams: bool, keyed: bool) -> Schema:
    content: Schema = {"application/json": {"schema": _ref(answer)}}
    if streams:
        content["text/event-stream"] = {
            "schema": {
                "description": "`data:` events, then `data: [DONE]`. A stream that could not be completed ends "
                "with an event that holds `error`, and without `[DONE]`.",
            }
        }
    headers = ("x-request-id", "x-secondsource-pool", "x-secondsource-supplier", "x-secondsource-chip")
    return {
        "operationId": name,
        "tags": ["public"],
        "security": _security(keyed=keyed),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {
            "200": {
                "description": "The answer, and in its headers where it was made.",
                "headers": {header: _header(header) for header in (*headers, "x-secondsource-attempts")},
                "content": content,
            },
            **_errors(PUBLIC_ERRORS),
        },
    }


def _read(
    name: str,
    text: str,
    schema: Schema,
    *,
    keyed: bool,
    tag: str = "public",
    errors: tuple[int, ...] = READ_ERRORS,
    media_type: str = "application/json",
) -> Schema:
    return {
        "operationId": name,
        "tags": [tag],
        "security": _security(keyed=keyed),
        "responses": {
            "200": {
                "description": text + ".",
                "headers": {"x-request-id": _header("x-request-id")},
                "content": {media_type: {"schema": schema}},
            },
            **_errors(errors),
        },
    }


def _admin_paths(fleet: Fleet, gateway_url: str, admin_url: str) -> Schema:
    keyed = fleet.admin.key_sha256 is not None
    here = [{"url": admin_url, "description": "the admin listener"}]
    text = {"type": "string"}
    pages = {
        "/metrics": ("metrics", "Metrics for Prometheus", text, "text/plain"),
        "/console": ("console", "A page for people", text, "text/html"),
        "/openapi.json": ("openapi", "This document", {"type": "object"}, "application/json"),
        "/admin/replicas": ("listReplicas", "Every replica as it stands", _ref("ReplicasAnswer"), "application/json"),
        "/admin/suppliers": ("listSuppliers", "Every supplier", _ref("SuppliersAnswer"), "application/json"),
        "/admin/lanes": ("listLanes", "Every lane as it stands", _ref("LanesAnswer"), "application/json"),
        "/admin/fleet": ("showFleet", "The fleet without secrets", _ref("FleetAnswer"), "application/json"),
        "/admin/requests/{request_id}": (
            "showRequest",
            "A request's attempts, and what of it runs",
            _ref("RequestAnswer"),
            "application/json",
        ),
        "/health": ("health", "This listener is alive", _ref("Health"), "application/json"),
    }
    paths: Schema = {}
    for path, (name, summary, schema, media_type) in pages.items():
        read = _read(name, summary, schema, keyed=keyed, tag="admin", errors=ADMIN_ERRORS, media_type=media_type)
        paths[path] = {"servers": here, "get": read}
    paths["/health"]["servers"] = [*here, {"url": gateway_url, "description": "the public listener"}]
    paths["/admin/requests/{request_id}"]["parameters"] = [
        {
            "name": "request_id",
            "in": "path",
            "required": True,
            "description": "the `x-request-id` of an answer",
            "schema": {"type": "string", "minLength": 1},
        }
    ]
    for verb, what in (("unplug", "Take a supplier away, in the middle of answers too"), ("plug", "Put it back")):
        paths[f"/admin/suppliers/{{supplier}}/{verb}"] = {"servers": here, **_switch(fleet, verb, what)}
    return paths


def _switch(fleet: Fleet, verb: str, text: str) -> Schema:
    keyed, names = fleet.admin.key_sha256 is not None, [supplier.name for supplier in fleet.suppliers]
    operation = _read(f"{verb}Supplier", text, _ref("PlugAnswer"), keyed=keyed, tag="admin", errors=ADMIN_ERRORS)
    schema = {"type": "string", "enum": names}
    return {"parameters": [{"name": "supplier", "in": "path", "required": True, "schema": schema}], "post": operation}


def _public_schemas(fleet: Fleet) -> Schema:
    model = {"type": "string", "enum": list(fleet.models), "description": "one of `/v1/models`"}
    stream = {
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
            "description": "of use with `stream: true` only",
        },
    }
    choices = {"n": {"type": ["integer", "null"], "minimum": 1, "maximum": 1024}}
    text = {"type": "string"}
    error = _object(
        {
            "message": text,
            "type": text,
            "param": {"type": ["string", "null"]},
            "code": {"type": ["string", "integer", "null"]},
        }
    )
    choice, answer_text = _object({"message": {"type": "object"}}), _object({"text": text})
    data = _object({"data": {"type": "array", "items": {"type": "object"}}})
    image = _request({"model": model, "prompt": text}, choices)
    if fleet.image_model is not None or len(fleet.models) == 1:
        image = _request(
            {"prompt": text}, {"model": {"type": ["string", "null"], "enum": [*fleet.models, None]}, **choices}
        )
    text_or_array = {"anyOf": [text, {"type": "array"}]}
    return {
        "Error": _object({"error": error}),
        "ChatCompletionRequest": _request(
            {"model": model, "messages": {"type": "array", "minItems": 1}}, {**stream, **choices}
        ),
        "CompletionRequest": _request({"model": model, "prompt": text_or_array}, {**stream, **choices}),
        "EmbeddingRequest": _request({"model": model, "input": text_or_array}, {}),
        "ImageRequest": image,
        "ChatCompletion": _object({"id": text, "choices": {"type": "array", "items": choice}}),
        "Completion": _object({"id": text, "choices": {"type": "array", "items": answer_text}}),
        "Embeddings": data,
        "Images": data,
        "Model": _object({"id": text, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": text}),
        "ModelList": _object({"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}}),
    }


def _request(required: Schema, optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": True,
    }


def _object(properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _status(value: str) -> Schema:
    return _object({"status": {"const": value}})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}


def _security(*, keyed: bool) -> list[Schema]:
    return [{"key": []}] if keyed else []


def _errors(statuses: tuple[int, ...]) -> Schema:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _error_response(status: int) -> Schema:
    headers = {"x-request-id": _header("x-request-id")}
    if status in (429, 503):
        headers["retry-after"] = _header("retry-after")
        headers["x-secondsource-refused"] = _header("x-secondsource-refused")
    return {
        "description": ERROR_TEXTS[status],
        "headers": headers,
        "content": {"application/json": {"schema": _ref("Error")}},
    }


def _headers() -> Schema:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 1}
    described = {
        "x-request-id": ("What `/admin/requests/ID` knows this request by.", text),
        "x-secondsource-pool": ("The pool that began the answer.", text),
        "x-secondsource-supplier": ("Its supplier.", text),
        "x-secondsource-chip": ("Its chip.", text),
        "x-secondsource-attempts": ("How many attempts there were when the headers left.", whole),
        "retry-after": ("Seconds to wait.", whole),
        "x-secondsource-refused": ("Which limit or lane sent the request away, where one did.", text),
        "x-secondsource-job": ("The job that the images are of.", text),
        "location": ("Where a job is to be asked for.", text),
        "preference-applied": ("`respond-async`.", text),
    }
    return {name: {"description": what, "schema": schema} for name, (what, schema) in described.items()}
