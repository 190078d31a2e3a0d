"""Which encoder a command uses: the artifact that the settings name, or the embedded one, assembled once."""

from pathlib import Path

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.encoders.embedded import cached_artifact
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.streams.settings import Settings


def artifact_folder(settings: Settings) -> Path:
    """Return the folder of the artifact; the embedded encoder is assembled at the first use.

    Raises
    ------
    AlignstreamError
        The embedded encoder is wanted, but its wheels are not installed.
    """
    return settings.artifact if settings.artifact is not None else cached_artifact(settings.cache_dir)


def open_encoder(settings: Settings) -> OnnxEncoder:
    """Load the encoder that the settings name."""
    return OnnxEncoder(
        artifact_folder(settings), threads=settings.threads, max_batch_tokens=settings.max_batch_tokens
    )


def open_cache(settings: Settings, encoder: OnnxEncoder) -> EmbeddingCache:
    """Return the cache of an encoder's vectors."""
    return EmbeddingCache(
        settings.cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
    )
