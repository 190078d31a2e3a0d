"""The adapters shipped with the package, one per supported encoder."""

import importlib.resources

from alignstream.models.adapter.adapter import Adapter, from_bytes
from alignstream.models.errors import AdapterMismatch


def packaged_adapter(encoder: str) -> Adapter | None:
    """Return the shipped adapter of an encoder, verified; None if there is none.

    Parameters
    ----------
    encoder : str
        Fingerprint of the encoder in use.
    """
    folder = importlib.resources.files("alignstream.models.adapter") / "packaged"
    if not folder.is_dir():
        return None
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".safetensors"):
            try:
                return from_bytes(file.read_bytes(), encoder=encoder)
            except AdapterMismatch:
                continue
    return None
