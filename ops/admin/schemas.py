"""Write the wire contract in the form that machines read: ``python -m alignstream.ops.admin.schemas docs/schemas``.

One JSON Schema for each topic, and an AsyncAPI 3 document that says who sends and who receives what.
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from alignstream.models.files import replace_file
from alignstream.streams.wire import topics
from alignstream.streams.wire.contract import schemas

#: Each topic, what it carries, and whether the service receives or sends it.
_CHANNELS = (
    (topics.DOCUMENTS, "A text to encode, align and classify; null is a tombstone.", "receive"),
    (topics.VECTORS, "An aligned vector; null is a tombstone.", "send"),
    (topics.LABELS, "Zero-shot labels of a text that asked for them; null is a tombstone.", "send"),
    (
        topics.PAIRS,
        "Two texts to compare, and to learn from if you vouch for them; null is a tombstone.",
        "receive",
    ),
    (topics.PAIRS_SCORED, "How similar the two texts of a pair are; null is a tombstone.", "send"),
    (topics.FEEDBACK, "A text and the label that it has.", "receive"),
    (topics.OBSERVATIONS, "Internal: what workers saw, for the learner.", "send"),
    (
        topics.EPOCHS,
        "The epochs that queries use, by tenant, with their parts and the learner's states; compacted.",
        "send",
    ),
    (topics.DEAD_LETTERS, "A refused record: its original bytes, and headers that say why.", "send"),
)


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the service; payloads refer to the schema files beside it."""
    channels, operations = {}, {}
    described = schemas()
    for topic, summary, action in _CHANNELS:
        message: dict[str, Any] = {"name": topic, "summary": summary}
        if topic in described:
            message |= {"contentType": "application/json", "payload": {"$ref": f"./{topic}.json"}}
        else:
            names = [topics.HEADER_ERROR_PREFIX + field for field in topics.ERROR_FIELDS]
            message["headers"] = {
                "type": "object",
                "required": names,
                "properties": {
                    name: {"enum": list(topics.REASONS)} if name.endswith(".reason") else {"type": "string"}
                    for name in names
                },
            }
        channels[topic] = {"address": topic, "messages": {topic: message}}
        operations[f"{action} {topic}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{_pointer(topic)}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "alignstream",
            "version": importlib.metadata.version("alignstream"),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
    }


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def files() -> dict[str, str]:
    """Return the content of every file by its name; the same record types give the same bytes."""
    contents = {f"{topic}.json": schema for topic, schema in schemas().items()}
    contents["asyncapi.json"] = asyncapi()
    return {name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in contents.items()}


def write(folder: Path) -> list[Path]:
    """Write the schemas into a folder, created if missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files().items():
        path = folder / name
        replace_file(path, content.encode())
        written.append(path)
    return written


if __name__ == "__main__":
    for _path in write(Path(*sys.argv[1:2])):
        sys.stdout.write(f"{_path}\n")
