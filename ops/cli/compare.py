"""``alignstream compare``: how alike two texts are, and which of their tokens stand for each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignstream.ops.cli.console import AsJson, print_json, warn
from alignstream.ops.cli.inputs import Artifact, gives_means, open_adapter, open_encoder
from alignstream.ops.cli.outputs import check_outputs, print_line

if TYPE_CHECKING:
    from alignstream.models.adapter.adapter import Adapter
    from alignstream.models.encoder.onnx import OnnxEncoder


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.command("compare")(compare)


def compare(
    text_a: Annotated[str, typer.Argument(help="The first text.", metavar="TEXT_A", show_default=False)],
    text_b: Annotated[str, typer.Argument(help="The second text.", metavar="TEXT_B", show_default=False)],
    *,
    language_a: Annotated[
        str | None, typer.Option("--language-a", help="Language tag of the first text, such as pt-BR.")
    ] = None,
    language_b: Annotated[
        str | None, typer.Option("--language-b", help="Language tag of the second text.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            help="'shipped', 'identity', or an adapter file. Default: the one shipped for this encoder, if any.",
        ),
    ] = None,
    artifact: Artifact = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write a heat map of the attention, replacing the file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two texts: cosine as encoded and aligned, and the attention between their tokens."""
    import dataclasses

    from alignstream.export.evaluate.heat_map import parts, to_text, write_png
    from alignstream.models.adapter.context import Context
    from alignstream.models.attention import token_attention
    from alignstream.models.attention.words import word_spans

    texts, tags = (text_a, text_b), (language_a, language_b)
    _check_unicode(TEXT_A=text_a, TEXT_B=text_b)
    check_outputs(png=png)
    _warn_unknown(language_a, language_b)
    encoder = open_encoder(artifact)
    used = _open_adapter(adapter, encoder)
    first, second = encoder.encode_tokens(texts)
    _warn_cut(A=first.dropped, B=second.dropped)
    raw_a, raw_b = encoder.encode_texts(texts)
    aligned_a, aligned_b = (
        used.transform_one(x, Context(language=tag)) for x, tag in zip((raw_a, raw_b), tags, strict=True)
    )
    centres = (
        token_attention.language_centres(used, first.vectors, second.vectors, *tags)
        if gives_means(encoder)
        else None
    )
    centre_a, centre_b = centres or (None, None)
    attention = token_attention.attend(first.vectors, second.vectors, centre_a=centre_a, centre_b=centre_b)
    spans = (first.spans, second.spans)
    names = [parts(text, places) for text, places in zip(texts, spans, strict=True)]
    if png is not None:
        write_png(attention, names[0], names[1], png)
    words = [word_spans(text, places) for text, places in zip(texts, spans, strict=True)]
    word_links = token_attention.word_links(attention.links, *spans, *words)
    raw, aligned = float(raw_a @ raw_b), float(aligned_a @ aligned_b)
    if as_json:
        print_json(
            {
                "encoder": encoder.fingerprint,
                "adapter_version": None if used.is_identity else used.version,
                "cosine": {"raw": raw, "aligned": aligned},
                "attention": {
                    "score": attention.score,
                    "precision": attention.precision,
                    "recall": attention.recall,
                    "temperature": token_attention.TEMPERATURE,
                    "min_confidence": token_attention.MIN_CONFIDENCE,
                    "centre": "own" if centres is None else "languages",
                },
                "tokens": _places(texts, spans),
                "links": [dataclasses.asdict(link) for link in attention.links],
                "unaligned": {"a": attention.unaligned_a, "b": attention.unaligned_b},
                "words": _places(texts, words),
                "word_links": [dataclasses.asdict(link) for link in word_links],
            }
        )
        return
    version = "identity" if used.is_identity else used.version
    lines = [
        f"sentence cosine: {raw:.3f} raw, {aligned:.3f} aligned (adapter {version})",
        f"token attention score: {attention.score:.3f}",
        *to_text(attention.links, *names),
    ]
    if png is not None:
        lines.append(f"heat map: {png}")
    print_line("\n".join(lines))


def _open_adapter(name: str | None, encoder: "OnnxEncoder") -> "Adapter":
    from alignstream.models.adapter.adapter import identity
    from alignstream.models.adapter.shipped import packaged_adapter

    if name is not None:
        return open_adapter(name, encoder=encoder.fingerprint, dim=encoder.dim)
    shipped = packaged_adapter(encoder.fingerprint)
    if shipped is None:
        warn("the package ships no adapter for this encoder, so nothing is aligned: give --adapter")
        return identity(encoder.fingerprint, encoder.dim)
    return shipped


def _check_unicode(**texts: str) -> None:
    """Refuse bytes that are no UTF-8, which Python gives as surrogates."""
    for name, text in texts.items():
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise typer.BadParameter("the text is not UTF-8; convert it", param_hint=name)


def _warn_unknown(*tags: str | None) -> None:
    from alignstream.models.adapter.languages import language_key

    for tag in tags:
        if tag is not None and language_key(tag) is None:
            warn(f"{tag!r} names no language and is ignored")


def _warn_cut(**dropped: int) -> None:
    for side, count in dropped.items():
        if count:
            warn(f"the last {count} tokens of {side} lie beyond the encoder's limit and are ignored")


def _places(texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> dict[str, Any]:
    return {
        side: [{"text": text[start:end], "start": start, "end": end} for start, end in places]
        for side, text, places in zip("ab", texts, spans, strict=True)
    }
