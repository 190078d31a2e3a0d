"""Write the JSON Schemas of the wire records, a file a topic: ``python -m alignstream.ops.schemas docs/schemas``."""

import json
import sys
from pathlib import Path

from alignstream.streams.records import schemas


def files() -> dict[str, str]:
    """Return the content of every schema file by its name; the same records give the same bytes."""
    return {
        f"{topic}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for topic, schema in schemas().items()
    }


def write(folder: Path) -> list[Path]:
    """Write the schemas into a folder, made if missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files().items():
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for _path in write(Path(*sys.argv[1:2])):
        sys.stdout.write(f"{_path}\n")
