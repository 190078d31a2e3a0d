"""The settings as people read them: value, origin, reason; no secret ever."""

from typing import Any

from pydantic import SecretStr

from alignstream.models.registry import layout as wire
from alignstream.streams.settings import Settings, load, origins

MASK = "********"


def shown_settings(settings: Settings | None = None) -> list[dict[str, str]]:
    """Return name, value, origin and description of every setting, as text.

    Raises
    ------
    SettingsError
        A setting is unknown or malformed.
    """
    found = load() if settings is None else settings
    where = origins()
    return [
        {
            "name": name,
            "value": masked(name, getattr(found, name)),
            "from": where[name],
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def masked(name: str, value: Any) -> str:  # noqa: ANN401 (value of any setting)
    """Write a value; passwords, also those inside a URL, become asterisks."""
    if isinstance(value, SecretStr):
        return MASK
    text = "" if value is None else str(value)
    if name == "redis_url":
        # A password may stand in several places of a URL: show only what is certainly none.
        shown = wire.address(text)
        return shown if shown == text else f"{shown} ({MASK})"
    return text
