"""``alignstream labels``: named label sets, and fitting them to texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignstream.models.errors import AdapterNotFound
from alignstream.models.files import replace_file
from alignstream.ops.cli.adapters import Note, list_names, roll_back, show_pointer
from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json
from alignstream.ops.cli.fit_pairs import Artifact

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.fit.label_fit import Outcome, Sample
    from alignstream.models.arrays import Matrix
    from alignstream.models.labels.label_set import LabelSet

labels_app = typer.Typer(
    no_args_is_help=True, help="Named label sets in the registry (Redis): push, fit, list, roll back."
)

SetName = Annotated[str, typer.Argument(help="Name in the registry.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(labels_app, name="labels")


@labels_app.command("push")
def push(
    name: Annotated[str, typer.Argument(help="Name that messages and ALIGNSTREAM_LABEL_SET use.")],
    file: Annotated[Path | None, typer.Argument(help="JSON, or one label a line.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="A label; repeat.")] = None,
    template: Annotated[str | None, typer.Option(help="Sentence that holds {label}.")] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Labels do not exclude each other.")
    ] = False,
    steady_mix: Annotated[
        bool,
        typer.Option(
            "--steady-mix",
            help="The stream's mix of topics is steady: prototypes may follow its texts. A stream that turns to one "
            "topic loses labels by it.",
        ),
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Publish a label set, from a file or from --label."""
    import msgspec

    from alignstream.models.errors import LabelsError
    from alignstream.models.labels.label_set import LabelSet
    from alignstream.ops.admin import adapters
    from alignstream.streams.settings import load

    if (file is None) == (not label):
        raise LabelsError("give the labels in a file or with --label, one of the two")
    read = adapters.read_label_set(file) if file is not None else LabelSet(labels=tuple(label or ()))
    is_multi = multi_label or read.multi_label
    labels = msgspec.structs.replace(
        read,
        template=template or read.template,
        multi_label=is_multi,
        steady_mix=steady_mix or read.steady_mix,
        # Margins are no thresholds: what was fitted to the other kind is not taken along.
        fitted=read.fitted if is_multi == read.multi_label else None,
    )
    show_pointer(adapters.push_label_set(load(), name, labels, note=note), as_json=as_json)


@labels_app.command("fit")
def fit(
    name: Annotated[str, typer.Argument(metavar="SET", help="The label set: its name in the registry.")],
    *,
    text: Annotated[
        Path,
        typer.Option(
            "--text",
            "-t",
            help="Texts without labels, in the mix that the stream has; a text a line, .tsv with language<TAB>text, or "
            ".jsonl with text and language. At least 200.",
        ),
    ],
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            "-e",
            help="Texts with labels, at least 20: lines of label<TAB>text or label<TAB>language<TAB>text, or .jsonl "
            "with label, text and language.",
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language tag of the texts that say none.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Take the labels of this file (as for push), not those of the registry."
        ),
    ] = None,
    wrong_cost: Annotated[
        float,
        typer.Option(
            "--wrong-cost",
            min=0.0,
            help="Right answers that a wrong one undoes; more abstains more. 0: never.",
        ),
    ] = 1.0,
    adapter: Annotated[
        str | None, typer.Option(help="Name, .safetensors file, or none. Default: the setting.")
    ] = None,
    artifact: Artifact = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the set to this file and publish nothing.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Refine the labels whatever speaks against the sample.")
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Fit a label set to texts: refined labels, and with examples their temperature and when to abstain.

    The result is a new version of the set; 'labels rollback' takes it back. It belongs to the adapter that serves now:
    under another one the plain labels serve, and 'doctor' says so.
    """
    from alignstream.export.fit.label_fit import read_examples, read_sample
    from alignstream.models.adapter.languages import is_known_tag
    from alignstream.ops.admin import adapters
    from alignstream.streams.settings import load

    if language is not None and not is_known_tag(language):
        raise typer.BadParameter(f"no registry knows the language {language!r}", param_hint="--language")
    settings = load(**({} if artifact is None else {"artifact": artifact}))
    label_set, revision = _label_set(name, file)
    sample = read_sample(text, language=language)
    labelled = None if examples is None else read_examples(examples, label_set, language=language)
    n_read = len(sample.texts)
    if labelled is not None:
        sample = sample.without(labelled)
        n_shared = n_read - len(sample.texts)
        if n_shared:
            _warn(f"{n_shared} texts of {text} are examples too; they count as examples alone")
    if sample.n_repeated:
        _warn(f"{sample.n_repeated} repeated texts of {text} counted once")
    outcome = _fit(
        label_set, sample, labelled,
        settings=settings, adapter=adapter, artifact=artifact, wrong_cost=wrong_cost, force=force,
    )  # fmt: skip
    for warning in outcome.warnings:
        _warn(warning)
    pointer = None
    if outcome.labels.fitted is not None and output is not None:
        _write(outcome.labels, output)
    elif outcome.labels.fitted is not None:
        pointer = adapters.push_label_set(
            settings, name, outcome.labels,
            note=note or f"fitted to {len(sample.texts)} texts", expected_revision=revision,
        )  # fmt: skip
    _show_fit(outcome, pointer, output, as_json=as_json)
    if outcome.labels.fitted is None:
        raise typer.Exit(DONE_IN_PART)


def _label_set(name: str, file: Path | None) -> "tuple[LabelSet, int | None]":
    """Return the labels to fit, and the revision that must still be there when they are published."""
    from alignstream.models.labels.label_set import from_bytes
    from alignstream.ops.admin import adapters
    from alignstream.streams.settings import load

    if file is not None:
        return adapters.read_label_set(file), None
    pointer, blob = adapters.fetch(load(), "labels", name)
    return from_bytes(blob), pointer.revision


def _fit(
    label_set: "LabelSet",
    sample: "Sample",
    labelled: "Sample | None",
    *,
    settings: Any,  # noqa: ANN401 (imported lazily)
    adapter: str | None,
    artifact: Path | None,
    wrong_cost: float,
    force: bool,
) -> "Outcome":
    from alignstream.export.fit.label_fit import align, fit_labels
    from alignstream.models.labels.label_set import render
    from alignstream.ops.admin import adapters
    from alignstream.ops.cli.fit_pairs import open_cache

    cache, encoder, dim = open_cache(artifact)
    found, _ = adapters.catalogue(settings, encoder=encoder, dim=dim)
    found, settings = adapters.with_adapter(found, adapter, settings, encoder=encoder)
    used = found.adapter(settings.adapter)
    if used is None:
        raise AdapterNotFound(f"no adapter {settings.adapter!r} for this encoder")
    template = label_set.template or settings.template
    rendered = [render(template, label) for label in label_set.labels]

    def embed(part: str, texts: "Sample") -> "Matrix":
        return align(used, _embed(cache, part, list(texts.texts)), texts.languages)

    return fit_labels(
        label_set,
        adapter=used,
        template=template,
        prototypes=used.transform_many(_embed(cache, "labels", rendered)),
        sample=embed("labels.sample", sample),
        examples=None if labelled is None else embed("labels.examples", labelled),
        gold=None if labelled is None else labelled.gold,
        wrong_cost=wrong_cost,
        force=force,
    )


def _embed(cache: "EmbeddingCache", part: str, texts: list[str]) -> "Matrix":
    return cache.embed_with_progress({part: texts}, title=f"encoding {part.removeprefix('labels.')}")[part]


def _warn(message: str) -> None:
    errors.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _write(labels: "LabelSet", output: Path) -> None:
    from alignstream.models.errors import AlignstreamError

    try:
        replace_file(output, labels.blob + b"\n")
    except OSError as error:
        raise AlignstreamError(f"cannot write {output}: {error.strerror}") from error


def _show_fit(outcome: "Outcome", pointer: Any, output: Path | None, *, as_json: bool) -> None:  # noqa: ANN401
    import msgspec

    is_fitted = outcome.labels.fitted is not None
    if as_json:
        print_json(
            {
                "fitted": is_fitted,
                "pointer": None if pointer is None else msgspec.to_builtins(pointer),
                "output": str(output) if is_fitted and output is not None else None,
                **_summary(outcome.labels),
                "report": outcome.report,
            }
        )
        return
    _show_report(outcome.report)
    if not is_fitted:
        console.print("nothing was fitted: the label set stays as it is", highlight=False)
    elif output is not None:
        console.print(f"[bold]{escape(str(output))}[/] written", highlight=False, soft_wrap=True)
    else:
        show_pointer(pointer, as_json=False)


def _summary(labels: "LabelSet") -> dict[str, Any]:
    """Return what was fitted but for the numbers of the prototypes."""
    import msgspec

    if labels.fitted is None:
        return {}
    found: dict[str, Any] = msgspec.to_builtins(labels.fitted)
    return {key: value for key, value in found.items() if key not in {"prototypes", "report"}}


def _show_report(report: dict[str, Any]) -> None:
    lines = [
        f"{report['texts']} texts, {report['effective_labels']:g} of {len(report['shares'])} labels in use: "
        + ", ".join(f"{label} {share:.0%}" for label, share in report["shares"].items()),
        "labels: refined" if report["refined"] else "labels: as they were",
    ]
    for key, what in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")):
        if key in report:
            before, after = report[key]
            lines.append(f"{what} on {report['examples']} examples: {before:.1%} -> {after:.1%}")
    if "calibration_error" in report:
        before, after = report["calibration_error"]
        lines.append(f"expected calibration error: {before:.3f} -> {after:.3f}")
    lines.append(f"without a label: {report['abstained']:.1%} of the sample")
    if "abstained_examples" in report:
        answered = (
            f", {report['accuracy_answered']:.1%} of the answers are right"
            if "accuracy_answered" in report
            else ""
        )
        lines[-1] += f", {report['abstained_examples']:.1%} of the examples{answered}"
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


@labels_app.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """List the label sets in the registry."""
    list_names("labels", as_json=as_json)


@labels_app.command("show")
def show(
    name: SetName,
    version: Annotated[str | None, typer.Option(help="A version of its history.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the labels, template and kind of a label set, what was fitted, and its history."""
    import msgspec

    from alignstream.models.labels.label_set import from_bytes
    from alignstream.ops.admin import adapters
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    settings = load()
    pointer, blob = adapters.fetch(settings, "labels", name, version)
    labels = from_bytes(blob)
    store = open_store(settings)
    try:
        history = store.history("labels", name)
    finally:
        store.close()
    report = {} if labels.fitted is None else labels.fitted.report
    if as_json:
        print_json(
            {
                "pointer": msgspec.to_builtins(pointer),
                **msgspec.to_builtins(msgspec.structs.replace(labels, fitted=None)),
                "fitted": {**_summary(labels), "report": report} if labels.fitted is not None else None,
                "history": msgspec.to_builtins(history),
            }
        )
        return
    show_pointer(pointer, as_json=False)
    console.print(f"template: {escape(labels.template or '(the default of the worker)')}")
    console.print(f"labels exclude each other: {'no' if labels.multi_label else 'yes'}")
    console.print(f"the mix of topics is steady: {'yes' if labels.steady_mix else 'not said'}")
    for item in labels.labels:
        console.print(f"  - {escape(item)}")
    if labels.fitted is not None:
        console.print(
            f"fitted for adapter {labels.fitted.adapter_version}, encoder {labels.fitted.encoder[:12]}:",
            highlight=False,
        )
        _show_report(report)
    for past in history:
        frozen = " (rollback)" if past.frozen else ""
        console.print(
            f"  revision {past.revision}: {past.version}{frozen} {past.created} {escape(past.note)}",
            highlight=False,
            soft_wrap=True,
        )


@labels_app.command("rollback")
def rollback(
    name: SetName,
    to: Annotated[
        str | None, typer.Option("--to", help="Version to go back to. Default: the one before.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to an older version of a label set, under a new revision: a fit is taken back by it."""
    roll_back("labels", name, to, as_json=as_json)
