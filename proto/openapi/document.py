"""The OpenAPI document: an operation for each method that has a path."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, MethodDescriptorProto

from proto.openapi import frame
from proto.openapi.options import Comments, Options
from proto.openapi.schemas import RAW, Element, Schemas, UnsupportedError

Json = dict[str, Any]

_VERBS: Final = ("get", "post", "put", "patch", "delete")
_VARIABLE: Final = re.compile(r"\{([a-z_]+)(?:=([^}]*))?\}")


def document(files: Sequence[FileDescriptorProto]) -> Json:
    """Return the document of the public services in these files (with their imports and source info).

    Raises UnsupportedError for what it has no way to write down.
    """
    options = Options(files)
    comments = {file.name: Comments(file) for file in files}
    schemas = Schemas(dict(_elements(files, comments)), options)
    tags: list[Json] = []
    paths: dict[str, Json] = {}
    by_name = {f"{file.package}.{service.name}": (file, n) for file in files for n, service in enumerate(file.service)}
    for full_name, security in frame.SECURITY.items():
        file, number = by_name[full_name]
        service = file.service[number]
        commented = comments[file.name]
        tags.append({"name": service.name, "description": commented.at("service", number) or commented.package()})
        for index, method in enumerate(service.method):
            rule = options.http(method.options)
            if not rule:
                continue  # a stream has no REST form
            name = f"{full_name}.{method.name}"
            operation = {
                "operationId": f"{service.name}_{method.name}",
                "tags": [service.name],
                **_described(commented.at("service", number, "method", index)),
                "security": security,
            }
            verb, path = _where(rule, name)
            path, parameters, in_path = _path_parameters(path, method, schemas)
            operation |= _inputs(name, verb, method, schemas, parameters, in_path)
            operation["responses"] = {"200": _answer(name, method, schemas)} | _ERRORS
            paths.setdefault(path, {})[verb] = operation
    return {
        "openapi": "3.1.0",
        "info": frame.INFO,
        "servers": [{"url": "/"}],
        "tags": [frame.PORTAL_TAG, *tags],
        "paths": frame.PORTAL_PATHS | paths,
        "components": {
            "securitySchemes": frame.SECURITY_SCHEMES,
            "responses": {_response_name(code): _error(text) for code, text in frame.ERRORS.items()},
            "schemas": {"google.rpc.Status": frame.STATUS} | dict(sorted(schemas.made.items())),
        },
    }


def _response_name(code: str) -> str:
    return f"Error{code.capitalize()}"


def _error(text: str) -> Json:
    schema = {"$ref": "#/components/schemas/google.rpc.Status"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_ERRORS: Final = {code: {"$ref": f"#/components/responses/{_response_name(code)}"} for code in frame.ERRORS}


def _elements(files: Sequence[FileDescriptorProto], comments: dict[str, Comments]) -> Iterator[tuple[str, Element]]:
    for file in files:
        prefix = f".{file.package}"
        for number, message in enumerate(file.message_type):
            yield from _nested(message, prefix, comments[file.name], ("message", number))
        for number, enum in enumerate(file.enum_type):
            yield f"{prefix}.{enum.name}", Element(enum, comments[file.name], ("enum", number))


def _nested(
    message: DescriptorProto, prefix: str, comments: Comments, path: tuple[str | int, ...]
) -> Iterator[tuple[str, Element]]:
    name = f"{prefix}.{message.name}"
    yield name, Element(message, comments, path)
    for number, inner in enumerate(message.nested_type):
        yield from _nested(inner, name, comments, (*path, "nested", number))


def _described(comment: str) -> Json:
    """The first sentence is the summary, all of it the description."""
    if not comment:
        return {}
    summary = re.split(r"(?<=[.:])\s", comment, maxsplit=1)[0].rstrip(".:")
    return {"summary": summary, "description": comment}


def _where(rule: Json, name: str) -> tuple[str, str]:
    for verb in _VERBS:
        if verb in rule:
            return verb, rule[verb]
    raise UnsupportedError(f"{name} has a path of no known verb")


def _path_parameters(
    template: str, method: MethodDescriptorProto, schemas: Schemas
) -> tuple[str, list[Json], frozenset[str]]:
    """`/v1/{name=documents/*}` becomes `/v1/documents/{document}`: the parameter is what stands for the star."""
    parameters: list[Json] = []
    bound: set[str] = set()
    path, at = "", 0
    for variable in _VARIABLE.finditer(template):
        field, pattern = variable[1], variable[2] or "*"
        before, star, after = pattern.partition("*")
        if not star or after.strip("*"):
            raise UnsupportedError(f"{template}: one star at the end is known")
        schema, _ = schemas.field(method.input_type, field)
        text = schema.pop("description", "")
        name = field
        if before:
            name = before.rstrip("/").removesuffix("s")
            if "pattern" in schema:
                schema["pattern"] = schema["pattern"].replace(f"^{before}", "^")
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
        if text:
            parameters[-1]["description"] = text
        path += template[at : variable.start()] + before + "{" + name + "}"
        at = variable.end()
        bound.add(field)
    return path + template[at:], parameters, frozenset(bound)


def _inputs(
    name: str,
    verb: str,
    method: MethodDescriptorProto,
    schemas: Schemas,
    parameters: list[Json],
    in_path: frozenset[str],
) -> Json:
    if method.input_type == RAW:
        content: Json = {frame.MEDIA_TYPES[name][0]: {}}
    elif verb == "get":
        parameters = parameters + [
            _query_parameter(schemas, method.input_type, field.name, field.json_name)
            for field in schemas.message(method.input_type).field
            if field.name not in in_path
        ]
        content = {}
    else:
        content = {"application/json": {"schema": schemas.body(method.input_type, in_path)}}
    inputs: Json = {"parameters": parameters} if parameters else {}
    return inputs | ({"requestBody": {"required": True, "content": content}} if content else {})


def _query_parameter(schemas: Schemas, message: str, name: str, json_name: str) -> Json:
    schema, required = schemas.field(message, name)
    text = schema.pop("description", "")
    parameter = {"name": json_name, "in": "query", "required": required, "schema": schema}
    return parameter | ({"description": text} if text else {})


def _answer(name: str, method: MethodDescriptorProto, schemas: Schemas) -> Json:
    if method.output_type == RAW:
        return {"description": "The bytes.", "content": {media: {} for media in frame.MEDIA_TYPES[name][1]}}
    schema = schemas.response(method.output_type)
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
