"""Kafka for people's programs: producing, reading, dead letters, and the typed client."""
