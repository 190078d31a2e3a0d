"""The file that a fit writes: checked before the work, written whole or not at all."""

import os
from pathlib import Path

from alignstream.models.adapter.adapter import Adapter, from_bytes
from alignstream.models.errors import FitError
from alignstream.models.files import replace_file


def write_adapter(adapter: Adapter, output: Path, *, overwrite: bool) -> None:
    """Write an adapter's file, whole or not at all, after reading it back as the service will.

    Raises
    ------
    FitError
        The file is there already and is to be kept, or the disk refuses.
    AdapterCorrupt
        It would not be read back, for instance because its report is too large.
    """
    check_adapter_output(output, overwrite=overwrite)
    from_bytes(adapter.blob, encoder=adapter.encoder)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, adapter.blob)
    except OSError as error:
        raise FitError(f"cannot write {output}: {error.strerror or error}") from error


def check_adapter_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a place where an adapter must not be written, before any work is done.

    Raises
    ------
    FitError
        It is a folder, or a file that is to be kept, or its folder cannot be made or written to.
    """
    try:
        if output.is_dir():
            raise FitError(f"{output} is a folder; name a file, such as {output / 'adapter.safetensors'}")
        if output.exists() and not overwrite:
            raise FitError(f"{output} is there already; add --overwrite to replace it")
        output.parent.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(output.parent, os.W_OK)
    except OSError as error:
        raise FitError(f"cannot write {str(output)[:200]}: {error.strerror or error}") from error
    if not is_writable:
        raise FitError(f"cannot write {output}: its folder does not allow it; name another")
