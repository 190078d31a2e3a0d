from rich.console import Console

from alignstream.ops.demo import screen


def test_the_table_fits_a_terminal_of_eighty_cells_and_hides_no_loss() -> None:
    full = {name: {"static": 1.0, "following": 1.0, "n": 3.0} for name in ("r_precision", "to_english")}
    worse = {name: {"static": 0.5, "following": 0.25, "n": 3.0} for name in ("r_precision", "from_english")}
    rows = [
        {"domain": "everyday", "epoch": 0, "reason": None, "n_learned": None, "n_queries": 64, "all": full,
         "newcomer": {}},
        {"domain": "clinic", "epoch": 12, "reason": "doubling", "n_learned": 1536, "n_queries": 1100, "all": full,
         "newcomer": worse},
    ]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(screen.by_epoch(rows, "Luganda"))
    printed = console.export_text()
    assert "…" not in printed
    assert "50.0→25.0" in printed
    assert max(map(len, printed.splitlines())) <= 80
