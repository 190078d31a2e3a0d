"""Kafka for people's programs: producing, reading, dead letters, and the typed client."""

from alignstream.ops.client.client import AlignedVector, Client, Result

__all__ = ["AlignedVector", "Client", "Result"]
