"""``alignstream compare``: what is no text is refused before an encoder is loaded."""

import typer
from typer.testing import CliRunner

from alignstream.ops.cli import compare


def test_texts_that_are_not_utf_8_are_refused_in_one_line() -> None:
    app = typer.Typer()
    compare.register(app)
    app.command("other")(lambda: None)
    for texts in (("\udcff\udcfe", "b"), ("a", "b\ud800")):
        refused = CliRunner().invoke(app, ["compare", *texts], terminal_width=200)
        assert refused.exit_code == 2
        assert "the text is not UTF-8" in refused.output
