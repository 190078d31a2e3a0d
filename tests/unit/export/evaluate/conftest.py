"""The session that tests of evaluation run in: a toy encoder behind a cache, and the adapter that helps it."""

from pathlib import Path

import pytest
from toy_languages import DIM, ENCODER, encode, toy_adapter

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.evaluate.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    return Session(cache=cache, adapter=toy_adapter(), adapter_name="toy")
