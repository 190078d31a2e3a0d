"""``alignstream labels fit``: fit a label set to texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignstream.models.errors import AdapterNotFound
from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, print_json, warn
from alignstream.ops.cli.inputs import Artifact
from alignstream.ops.cli.options import AdapterChoice, Note, settings_with
from alignstream.ops.cli.registry_output import show_pointer

if TYPE_CHECKING:
    from alignstream.export.data.embedding_cache import EmbeddingCache
    from alignstream.export.data.label_examples import LabelTexts
    from alignstream.export.fit.label_fit import LabelFitOutcome
    from alignstream.models.arrays import Matrix
    from alignstream.models.labels.label_set import LabelSet
    from alignstream.models.registry.layout import Pointer
    from alignstream.streams.settings import Settings


def fit(
    name: Annotated[str, typer.Argument(metavar="SET", help="The label set: its name in the registry.")],
    *,
    text: Annotated[
        Path,
        typer.Option(
            "--text",
            "-t",
            help="At least 200 texts without labels, in the mix that the stream has: one text a line, .tsv with "
            "language and text, or .jsonl with text and language.",
        ),
    ],
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            "-e",
            help="At least 20 texts with labels: lines of label and text, or of label, language and text, separated by "
            "tabs; or .jsonl with label, text and language.",
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language tag of the texts that have none.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--labels", help="Take the labels from this file (as for push), not from the registry."),
    ] = None,
    wrong_cost: Annotated[
        float,
        typer.Option(
            "--wrong-cost",
            min=0.0,
            help="How many right answers a wrong one costs: the more, the more texts get no label. 0: all get one.",
        ),
    ] = 1.0,
    adapter: AdapterChoice = None,
    artifact: Artifact = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the set to this file and publish nothing.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Refine the labels even if the sample looks unsuitable.")
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Fit a label set to texts: refine its labels and, given examples, calibrate scores and learn when to abstain.

    The result is a new version of the set; 'labels rollback' undoes it. It is bound to the adapter that serves now:
    under another adapter the plain labels serve, and 'doctor' says so.
    """
    from alignstream.export.data.label_examples import read_examples, read_sample
    from alignstream.models.adapter.languages import is_known_tag
    from alignstream.ops.admin.output_file import write_output
    from alignstream.ops.admin.registry import push_label_set

    if language is not None and not is_known_tag(language):
        raise typer.BadParameter(f"no registry knows the language {language!r}", param_hint="--language")
    settings = settings_with(artifact=artifact)
    label_set, revision = _label_set(settings, name, file)
    sample = read_sample(text, language=language)
    labelled = None if examples is None else read_examples(examples, label_set, language=language)
    n_read = len(sample.texts)
    if labelled is not None:
        sample = sample.without(labelled)
        n_shared = n_read - len(sample.texts)
        if n_shared:
            warn(f"{n_shared} texts of {text} are also examples; they count only as examples")
    if sample.n_repeated:
        warn(f"{text} repeats {sample.n_repeated} texts; each counts once")
    outcome = _fit(
        label_set, sample, labelled,
        settings=settings, adapter=adapter, artifact=artifact, wrong_cost=wrong_cost, force=force,
    )  # fmt: skip
    for warning in outcome.warnings:
        warn(warning)
    pointer = None
    is_fitted = outcome.labels.fitted is not None
    if is_fitted and output is not None:
        write_output(output, outcome.labels.blob + b"\n")
    elif is_fitted:
        pointer = push_label_set(
            settings, name, outcome.labels,
            note=note or f"fitted to {len(sample.texts)} texts", expected_revision=revision,
        )  # fmt: skip
    _show_fit(outcome, pointer, output, as_json=as_json)
    if not is_fitted:
        raise typer.Exit(DONE_IN_PART)


def _label_set(settings: "Settings", name: str, file: Path | None) -> "tuple[LabelSet, int | None]":
    """Return the labels to fit, and the revision that must still be current when they are published."""
    from alignstream.models.labels.label_set import from_bytes
    from alignstream.ops.admin.registry import fetch, read_label_set

    if file is not None:
        return read_label_set(file), None
    pointer, blob = fetch(settings, "labels", name)
    return from_bytes(blob), pointer.revision


def _fit(
    label_set: "LabelSet",
    sample: "LabelTexts",
    labelled: "LabelTexts | None",
    *,
    settings: "Settings",
    adapter: str | None,
    artifact: Path | None,
    wrong_cost: float,
    force: bool,
) -> "LabelFitOutcome":
    from alignstream.export.fit.label_fit import align_tagged, fit_labels
    from alignstream.models.labels.label_set import render
    from alignstream.ops.admin.adapter_choice import catalogue, with_adapter
    from alignstream.ops.cli.inputs import open_cache

    cache, encoder, dim = open_cache(artifact)
    served, _ = catalogue(settings, encoder=encoder, dim=dim)
    served, settings = with_adapter(served, adapter, settings, encoder=encoder)
    serving = served.adapter(settings.adapter)
    if serving is None:
        raise AdapterNotFound(f"no adapter {settings.adapter!r} for this encoder")
    template = label_set.template or settings.template
    rendered = [render(template, label) for label in label_set.labels]

    def embed(part: str, texts: "LabelTexts") -> "Matrix":
        return align_tagged(serving, _embed(cache, part, list(texts.texts)), texts.languages)

    return fit_labels(
        label_set,
        adapter=serving,
        template=template,
        prototypes=serving.transform_many(_embed(cache, "labels", rendered)),
        sample=embed("labels.sample", sample),
        examples=None if labelled is None else embed("labels.examples", labelled),
        gold=None if labelled is None else labelled.gold,
        wrong_cost=wrong_cost,
        force=force,
    )


def _embed(cache: "EmbeddingCache", part: str, texts: list[str]) -> "Matrix":
    return cache.embed_with_progress({part: texts}, title=f"encoding {part.removeprefix('labels.')}")[part]


def _show_fit(
    outcome: "LabelFitOutcome", pointer: "Pointer | None", output: Path | None, *, as_json: bool
) -> None:
    import msgspec

    is_fitted = outcome.labels.fitted is not None
    if as_json:
        print_json(
            {
                "fitted": is_fitted,
                "pointer": None if pointer is None else msgspec.to_builtins(pointer),
                "output": str(output) if is_fitted and output is not None else None,
                **fitted_summary(outcome.labels),
                "report": outcome.report,
            }
        )
        return
    show_report(outcome.report)
    if not is_fitted:
        console.print("nothing was fitted: the label set stays as it is")
    elif output is not None:
        console.print(f"[bold]{escape(str(output))}[/] written", soft_wrap=True)
    elif pointer is not None:
        show_pointer(pointer, as_json=False)


def fitted_summary(labels: "LabelSet") -> dict[str, Any]:
    """Return what was fitted to a set, without the prototypes' numbers and the report."""
    import msgspec

    if labels.fitted is None:
        return {}
    fields: dict[str, Any] = msgspec.to_builtins(labels.fitted)
    return {name: value for name, value in fields.items() if name not in {"prototypes", "report"}}


def show_report(report: dict[str, Any]) -> None:
    """Print the report of a fit."""
    lines = [
        f"{report['texts']} texts, {report['effective_labels']:g} of {len(report['shares'])} labels in use: "
        + ", ".join(f"{label} {share:.0%}" for label, share in report["shares"].items()),
        "labels: refined" if report["refined"] else "labels: unchanged",
    ]
    for key, measure in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")):
        if key in report:
            before, after = report[key]
            lines.append(f"{measure} on {report['examples']} examples: {before:.1%} -> {after:.1%}")
    if "calibration_error" in report:
        before, after = report["calibration_error"]
        lines.append(f"expected calibration error: {before:.3f} -> {after:.3f}")
    lines.append(f"without a label: {report['abstained']:.1%} of the sample")
    if "abstained_examples" in report:
        answered = (
            f"; {report['accuracy_answered']:.1%} of the labels given are right"
            if "accuracy_answered" in report
            else ""
        )
        lines[-1] += f", {report['abstained_examples']:.1%} of the examples{answered}"
    for line in lines:
        console.print(escape(line), soft_wrap=True)
