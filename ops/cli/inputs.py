"""What commands open before they work: the encoder, the cache of its vectors, an adapter, a file of texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from alignstream.ops.cli.console import errors
from alignstream.ops.cli.options import settings_with

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.evaluate.session import Session
    from alignstream.models.adapter.adapter import Adapter
    from alignstream.models.encoder.onnx import OnnxEncoder
    from alignstream.streams.settings import Settings

Artifact = Annotated[
    Path | None,
    typer.Option("--artifact", help="Encoder artifact. Default: as configured, else the embedded one."),
]


class OpenCache(NamedTuple):
    """The cache of vectors in front of an encoder, the encoder's fingerprint, and its embedding dimension."""

    cache: "EmbeddingCache"
    encoder: str
    dim: int


def open_encoder(artifact: Path | None) -> "OnnxEncoder":
    """Load the encoder that is named, else the configured one, else the embedded one."""
    return _open_encoder(settings_with(artifact=artifact))


def open_cache(artifact: Path | None) -> OpenCache:
    """Load an encoder behind the cache of its vectors."""
    settings = settings_with(artifact=artifact)
    encoder = _open_encoder(settings)
    return OpenCache(_cache_of(encoder, settings), encoder.fingerprint, encoder.dim)


def open_adapter(name: str, *, encoder: str, dim: int) -> "Adapter":
    """Return the adapter that a command starts from: ``shipped``, ``identity``, or a file.

    Raises
    ------
    AdapterNotFound
        The package ships none for this encoder, or there is no such file.
    """
    from alignstream.models.adapter.adapter import from_bytes, identity
    from alignstream.models.adapter.shipped import packaged_adapter
    from alignstream.models.errors import AdapterNotFound

    if name == "identity":
        return identity(encoder, dim)
    if name == "shipped":
        shipped = packaged_adapter(encoder)
        if shipped is None:
            raise AdapterNotFound(
                "the package ships no adapter for this encoder; start from 'identity' or a file"
            )
        return shipped
    try:
        return from_bytes(Path(name).read_bytes(), encoder=encoder)
    except OSError as error:
        raise AdapterNotFound(f"cannot read the adapter {name}: {error.strerror}") from error


def open_session(
    adapter: str, artifact: Path | None, *, uses_tags: bool, seed: int, template: str | None
) -> "Session":
    """Return the encoder behind its cache, with the adapter that is judged."""
    from alignstream.export.data.public_sets import TEMPLATE
    from alignstream.export.evaluate.session import Session

    settings = settings_with(artifact=artifact)
    encoder = _open_encoder(settings)
    return Session(
        cache=_cache_of(encoder, settings),
        adapter=open_adapter(adapter, encoder=encoder.fingerprint, dim=encoder.dim),
        adapter_name=Path(adapter).name,
        uses_tags=uses_tags,
        seed=seed,
        template=template or TEMPLATE,
        encode_tokens=encoder.encode_tokens,
        is_mean=gives_means(encoder),
    )


def gives_means(encoder: "OnnxEncoder") -> bool:
    """Say whether an encoder's vectors are means of its tokens, so that means of sentences are those of tokens too."""
    return encoder.manifest.pooling == "mean" and encoder.manifest.dense is None


def read_own_texts(path: Path) -> list[str]:
    """Read a file with a text a line: each text once.

    Raises
    ------
    TextError
        It cannot be read, or holds no text.
    """
    from alignstream.export.data.lines import read_filled_lines
    from alignstream.models.errors import TextError

    texts = list(dict.fromkeys(line.strip() for _, line in read_filled_lines(path)))
    if not texts:
        raise TextError(f"{path} holds no text")
    return texts


def _open_encoder(settings: "Settings") -> "OnnxEncoder":
    from alignstream.ops.admin.encoder_choice import open_encoder as open_chosen

    with errors.status("loading the encoder"):
        return open_chosen(settings)


def _cache_of(encoder: "OnnxEncoder", settings: "Settings") -> "EmbeddingCache":
    from alignstream.ops.admin.encoder_choice import open_cache as open_chosen

    return open_chosen(settings, encoder)
