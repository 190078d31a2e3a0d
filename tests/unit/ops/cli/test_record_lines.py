from alignstream.ops.cli.record_lines import clean


def test_text_from_outside_cannot_act_on_the_terminal() -> None:
    assert clean("\x1b[31mred\x07 [bold]x[/bold]\u202e") == "�[31mred� \\[bold]x\\[/bold]�"


def test_long_text_is_shortened() -> None:
    assert len(clean("x" * 1000)) == 81
