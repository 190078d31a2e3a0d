"""The page of the schemas: every field of every record, from the JSON Schemas, and the channels of AsyncAPI."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from markdown_table import cell, code, table

from alignstream.ops.admin.schemas import asyncapi
from alignstream.streams.wire.contract import schemas
from alignstream.streams.wire.topics import DOCUMENTS

Schema = Mapping[str, Any]

_HEAD: Final = """\
# Schemas and AsyncAPI

Fields, types and limits of each record, from its JSON Schema. What the fields mean, with examples, is in
[Records](records.md). The files are made from the record types (`make schemas`):

- [`asyncapi.json`](../../schemas/asyncapi.json), an AsyncAPI 3 document: who sends and who receives what;
"""
#: Least, most, and what they count.
_LIMITS: Final = (
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minimum", "maximum", ""),
)


#: The pattern of names, which many fields share.
_NAME: Final = schemas()[DOCUMENTS]["$defs"]["DocumentV1"]["properties"]["tenant"]["pattern"]


def render() -> str:
    """Return the page."""
    document = asyncapi()
    described = schemas()
    lines = [_HEAD + "\n".join(f"- [`{topic}.json`](../../schemas/{topic}.json);" for topic in described)]
    lines[0] = lines[0].removesuffix(";") + "."
    lines += ["", "## Channels", ""]
    action = {name.split()[1]: item["action"] for name, item in document["operations"].items()}
    lines += table(
        ("topic", "the service", "what it carries"),
        (
            (f"[`{topic}`](#{_anchor(topic)})" if topic in described else code(topic), f"{action[topic]}s",
             message["summary"])
            for topic, channel in document["channels"].items()
            for message in channel["messages"].values()
        ),
    )  # fmt: skip
    for topic, schema in described.items():
        lines += [
            f"## {topic} {{ #{_anchor(topic)} }}",
            "",
            _resolve(schema, schema).get("description", "").replace("``", "`"),
            "",
        ]
        lines += table(("field", "type", "default", "limits and meaning"), _rows(schema, schema, ""))
    return "\n".join(lines)


def _anchor(topic: str) -> str:
    return topic.replace(".", "-")


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow a reference into ``$defs``."""
    while "$ref" in schema:
        found: Schema = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _rows(schema: Schema, root: Schema, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    schema = _resolve(schema, root)
    for name, raw in schema.get("properties", {}).items():
        field = _value(_resolve(raw, root), root)
        path = f"{prefix}{name}"
        default = "required" if name in schema.get("required", ()) else _default(raw)
        meaning = field.get("description", "") if "properties" not in field else ""
        is_nullable = any(item.get("type") == "null" for item in _resolve(raw, root).get("anyOf", ()))
        kind = _type(field, root) + (" or null" if is_nullable and default == "required" else "")
        yield code(path), cell(kind), default, ". ".join(filter(None, (*_limits(field), meaning)))
        inner = field
        while isinstance(inner.get("items"), dict):
            inner = _resolve(inner["items"], root)
            path += "[]"
        yield from _rows(inner, root, f"{path}.")


def _limits(field: Schema) -> Iterator[str]:
    for least, most, unit in _LIMITS:
        if least in field and most in field:
            yield f"{field[least]:g} to {field[most]:g}{unit}"
        elif least in field:
            yield f"At least {field[least]:g}{unit}"
        elif most in field:
            yield f"At most {field[most]:g}{unit}"
    if field.get("pattern") == _NAME:
        yield "A [name](records.md#names)"
    elif "pattern" in field:
        yield f"Matches `{field['pattern']}`"


def _default(raw: Schema) -> str:
    value = raw.get("default")
    return (
        code(str(value).lower() if isinstance(value, bool) else str(value)) if value is not None else "absent"
    )


def _value(field: Schema, root: Schema) -> Schema:
    """Return the one type of a field that may also be null."""
    options = [_resolve(item, root) for item in field.get("anyOf", ()) if item.get("type") != "null"]
    if len(options) != 1:
        return field
    own = {key: value for key, value in field.items() if key in {"description", "default"}}
    return {**options[0], **own}


def _type(field: Schema, root: Schema) -> str:
    if "enum" in field:
        return ", ".join(code(str(value)) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(_resolve(item, root), root) for item in field["anyOf"])
    kind = field.get("type", "any JSON")
    if kind == "array" and "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} ({', '.join(_type(item, root) for item in field['prefixItems'])})"
    if kind == "array" and isinstance(field.get("items"), dict):
        return f"list of {_type(_resolve(field['items'], root), root)}"
    return str(kind)
