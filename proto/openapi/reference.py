"""The OpenAPI document as one page to read: no script, nothing that is fetched."""

import re
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

Json = dict[str, Any]

_FOLDER: Final = Path(__file__).parent
_SCHEMAS: Final = "#/components/schemas/"
_CODE: Final = re.compile(r"`([^`]+)`")


def page(document: Json) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"prose": _prose, "kind": _kind, "rules": _rules, "anchor": _anchor}
    template = environment.get_template("reference.html.j2")
    operations = [
        {"path": path, "verb": verb.upper(), **operation}
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    return template.render(
        document=document,
        tags=[(tag, [item for item in operations if tag["name"] in item["tags"]]) for tag in document["tags"]],
        schemas=document["components"]["schemas"],
        responses=document["components"]["responses"],
    )


def _prose(text: str) -> Markup:
    """Paragraphs, lists and `code` of a description."""
    blocks = []
    for block in text.split("\n\n"):
        lines = [_CODE.sub(r"<code>\1</code>", str(escape(line))) for line in block.split("\n")]
        if all(line.startswith("- ") for line in lines):
            blocks.append("<ul>" + "".join(f"<li>{line[2:]}</li>" for line in lines) + "</ul>")
        else:
            blocks.append("<p>" + "<br>".join(lines) + "</p>")
    # Every line was escaped above; what is added is ours.
    return Markup("".join(blocks))  # noqa: S704


def _anchor(name: str) -> str:
    return "schema-" + name.replace(".", "-")


def _kind(schema: Json) -> Markup:
    """What a value is, with a link to a schema of its own."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return Markup('<a href="#{}">{}</a>').format(_anchor(name), name.rpartition(".")[2])
    if schema.get("type") == "array":
        return Markup("list of ") + _kind(schema["items"])
    if schema.get("contentEncoding"):
        return Markup("base64")
    if "anyOf" in schema:
        return Markup(" or ").join(_kind(item) for item in schema["anyOf"])
    if "const" in schema:
        return Markup("<code>{}</code>").format(schema["const"])
    return escape(schema.get("type", "any"))


_RULES: Final = (
    ("pattern", "matches {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("minItems", "at least {} of them"),
    ("maxItems", "at most {} of them"),
)


def _rules(schema: Json) -> str:
    """The rules of a value, in words."""
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    said = [text.format(schema[name]) for name, text in _RULES if name in schema]
    if schema.get("uniqueItems"):
        said.append("each once")
    inner = schema.get("items")
    if inner and "$ref" not in inner and (of_each := _rules(inner)):
        said.append(f"each {of_each}")
    return "; ".join(said)
