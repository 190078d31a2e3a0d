"""The real encoder in the tests' own process: one at a time, as each takes most of a gigabyte."""

import ctypes
import gc
from pathlib import Path
from typing import Any

from alignstream.models.encoder.onnx import OnnxEncoder


class OneEncoder:
    """Loads encoders; the one before goes first. Whoever keeps one elsewhere has two."""

    def __init__(self) -> None:
        self._key: object = None
        self._loaded: OnnxEncoder | None = None

    def load(self, artifact: Path, **options: Any) -> OnnxEncoder:
        """Return the encoder of an artifact with these options; the same one for the same question."""
        key = artifact, *sorted(options.items())
        if self._loaded is None or key != self._key:
            self.drop()
            self._loaded, self._key = OnnxEncoder(artifact, **options), key
        return self._loaded

    def drop(self) -> None:
        """Let the encoder go, and its memory: a tokenizer is millions of small pieces, which malloc would keep."""
        self._loaded = None
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
