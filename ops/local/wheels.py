"""Programs that come in wheels: the Tansu broker, and a Redis."""

import importlib.metadata
import os
from pathlib import Path

from alignstream.models.errors import ProcessError


def wheel_file(distribution: str, path: str) -> Path:
    """Return an executable file of an installed distribution, without importing its package.

    Raises
    ------
    ProcessError
        The distribution or the file is missing, or the file cannot be made executable.
    """
    try:
        file = Path(str(importlib.metadata.distribution(distribution).locate_file(path)))
    except importlib.metadata.PackageNotFoundError as error:
        raise ProcessError(f"{distribution} is not installed: pip install 'alignstream[embedded]'") from error
    if not file.is_file():
        raise ProcessError(f"{distribution} holds no {path}: is there a wheel of it for this platform?")
    if not os.access(file, os.X_OK):
        try:
            file.chmod(file.stat().st_mode | 0o111)
        except OSError as error:
            raise ProcessError(f"{file} is not executable: chmod +x it") from error
    return file
