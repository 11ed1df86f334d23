"""The OpenAPI 3.1 description, made from the table of calls and the msgspec types in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

import recado
from recado.chat.actions import SEQ_MAX
from recado.chat.policy import ChatLimits
from recado.http.asked import Parameter
from recado.http.call import JSON_TEXT, PLAIN_TEXT, Call, Who
from recado.http.refusals import STATUS_OF_CODE, ErrorAnswer
from recado.http.settings import HttpSettings
from recado.http.shapes import id_schema

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_PATH_SCHEMAS: Mapping[str, Json] = {
    "conversation": {"type": "string", **id_schema("order-4711")},
    "user": {"type": "string", **id_schema("ana")},
    "seq": {"type": "integer", "minimum": 0, "maximum": SEQ_MAX},
    "page": {"type": "string", **id_schema("k3x9")},
}
_SECURITY: Mapping[Who, list[Json]] = {
    "anyone": [],
    "user": [{"userToken": []}],
    "member": [{"userToken": []}, {"apiKey": []}],
    "host": [{"apiKey": []}],
}
_SCHEMES = {
    "userToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A user's token."},
    "apiKey": {"type": "http", "scheme": "bearer", "description": "The host application's API key."},
}
_MEANING = {
    400: "invalid: the request is malformed or breaks a rule",
    401: "unauthenticated: no credential, or one that is forged or expired",
    403: "forbidden: known to the caller, but not allowed to it",
    404: "not_found: unknown, or the caller is no member",
    405: "invalid: the path does not answer to this method",
    409: "conflict: the request contradicts what exists",
    413: "too_large: longer than its limit",
    415: "invalid: the body must be application/json",
    429: "rate_limited: too much, too fast",
    500: "internal: the server failed",
    503: "unavailable: nothing was stored, trying again is right",
}


def describe(calls: Sequence[Call[Any]], limits: ChatLimits, settings: HttpSettings) -> Json:
    """The whole document, with this server's limits in it."""
    paths: dict[str, Json] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, limits, settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Recado",
            "version": recado.__version__,
            "description": "Conversations: members, messages, events. Times are milliseconds since the epoch.",
        },
        "servers": [{"url": settings.public_url or "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(calls, limits, settings), "securitySchemes": _SCHEMES},
    }


def _operation(call: Call[Any], limits: ChatLimits, settings: HttpSettings) -> Json:
    operation: Json = {
        "operationId": call.name,
        "summary": call.summary,
        "security": _SECURITY[call.who],
        "parameters": _parameters(call, limits, settings),
        "responses": _responses(call),
    }
    if call.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(_ref(call.body))}
    return operation


def _parameters(call: Call[Any], limits: ChatLimits, settings: HttpSettings) -> list[Json]:
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
        for name in re.findall(r"{(\w+)}", call.path)
    ]
    parameters += [_query_parameter(parameter, limits, settings) for parameter in call.query]
    if call.who == "member":
        parameters.append(
            {
                "name": "Recado-User",
                "in": "header",
                "required": False,
                "description": "The user whom the host acts as. With a user's token only that user itself.",
                "schema": {"type": "string", **id_schema("ana")},
            }
        )
    return parameters


def _query_parameter(parameter: Parameter, limits: ChatLimits, settings: HttpSettings) -> Json:
    schemas: Mapping[str, Json] = {
        "seq": {"type": "integer", "minimum": 0, "maximum": SEQ_MAX},
        "limit": {"type": "integer", "minimum": 1, "maximum": limits.page_max, "default": limits.page_default},
        "wait": {"type": "integer", "minimum": 0, "maximum": settings.wait_max_s},
        "text": {"type": "string"},
    }
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "schema": schemas[parameter.kind],
    }


def _responses(call: Call[Any]) -> Json:
    responses: Json = {}
    for status, body in call.answers.items():
        responses[str(status)] = {"description": _success(status), **_content(body)}
    if call.streams:
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    for status in sorted(_error_statuses(call)):
        responses[str(status)] = {"description": _MEANING[status], "content": _json(_ref(ErrorAnswer))}
    return responses


def _success(status: int) -> str:
    return {200: "Done, or nothing to do.", 201: "Created.", 204: "Done."}[status]


def _content(body: Any) -> Json:
    if body is None:
        return {}
    if body is PLAIN_TEXT:
        return {"content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"content": _json({} if body is JSON_TEXT else _ref(body))}


def _error_statuses(call: Call[Any]) -> set[int]:
    """What can go wrong follows from the call's form; the table adds the rest."""
    statuses = {400, 405, 500} | {STATUS_OF_CODE[code] for code in call.errors}
    if call.who != "anyone":
        statuses |= {401, 403, 503}
    if "{" in call.path:
        statuses.add(404)
    if call.body is not None:
        statuses |= {413, 415}
    return statuses


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(shape: type) -> Json:
    return {"$ref": _REF.format(name=shape.__name__)}


def _schemas(calls: Sequence[Call[Any]], limits: ChatLimits, settings: HttpSettings) -> Json:
    shapes = {ErrorAnswer}
    for call in calls:
        shapes |= {shape for shape in (call.body, *call.answers.values()) if _has_shape(shape)}
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    _add_limits(schemas, limits, settings)
    return schemas


def _has_shape(shape: Any) -> bool:
    return shape not in (None, JSON_TEXT, PLAIN_TEXT)


def _add_limits(schemas: Json, limits: ChatLimits, settings: HttpSettings) -> None:
    """This server's own numbers. Its lengths count bytes, these count characters: they are upper bounds."""
    for shape in ("MessageBody", "EditBody"):
        schemas[shape]["properties"]["body"]["maxLength"] = limits.body_bytes_max
    schemas["ConversationBody"]["properties"]["members"]["description"] = (
        f"At most {limits.members_max} different users."
    )
    schemas["UserBody"]["properties"]["name"]["maxLength"] = limits.name_bytes_max
    schemas["SubscriptionBody"]["properties"]["endpoint"]["maxLength"] = limits.push_endpoint_bytes_max
    ttl = {"minimum": 1, "maximum": settings.token_ttl_s_max, "default": settings.token_ttl_s_default}
    schemas["TokenBody"]["properties"]["ttl_s"].update(ttl)
