"""Write an artifact's folder whole or not at all: build in a folder next to the target, then rename."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from alignstream.models.encoder import artifact
from alignstream.models.errors import ExportError

#: All that an artifact's folder may hold; a folder that holds anything else is never replaced.
_ARTIFACT_FILES = frozenset({artifact.MANIFEST, artifact.MODEL, artifact.TOKENIZER})


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a place where an artifact must not be written, before any work is done.

    Raises
    ------
    ExportError
        ``output`` is a file, a link, a folder with other things in it, or an artifact that is to be kept.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ExportError(f"{output} is not a folder; choose another --output")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if not names:
        return
    if artifact.MANIFEST not in names or not names <= _ARTIFACT_FILES:
        raise ExportError(f"{output} holds files that are not an encoder artifact; choose another --output")
    if not overwrite:
        raise ExportError(f"{output} holds an encoder artifact already; add --overwrite to replace it")


@contextlib.contextmanager
def new_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder next to ``output``; at the end it takes that name, on any error it is removed.

    Raises
    ------
    ExportError
        ``output`` may not be written, as ``check_output`` says, or the disk refuses.
    """
    output = Path(os.path.abspath(output))  # noqa: PTH100 (resolve() would follow the link that is refused)
    check_output(output, overwrite=overwrite)
    temporary = output.parent / f".{output.name}.{os.getpid()}.new"
    old = output.parent / f".{output.name}.{os.getpid()}.old"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        check_output(output, overwrite=overwrite)
        # A folder with files in it cannot be replaced in one step: step aside, and back if that fails.
        if output.exists():
            output.replace(old)
        try:
            temporary.replace(output)
        except OSError:
            if old.exists():
                old.replace(output)
            raise
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
