"""Options that several commands share, and the settings that they replace."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from alignstream.streams.settings import Settings

RegistryName = Annotated[str, typer.Argument(metavar="NAME", help="Name in the registry.")]
Version = Annotated[str | None, typer.Option(help="An older version. Default: the current one.")]
RollBackTo = Annotated[
    str | None, typer.Option("--to", help="Version to go back to. Default: the one before the current one.")
]
Note = Annotated[str, typer.Option(help="A few words to keep with this version.")]
AdapterChoice = Annotated[
    str | None,
    typer.Option(
        "--adapter", help="Name, .safetensors file, or none. Default: the setting.", show_default=False
    ),
]


def settings_with(**options: Any) -> "Settings":  # noqa: ANN401 (the value of any setting)
    """Load the settings; options that were given (not None) replace them.

    Raises
    ------
    SettingsError
        A setting is unknown or malformed.
    """
    from alignstream.streams.settings import load

    return load(**{name: value for name, value in options.items() if value is not None})
