"""Replay streams as the service sees them: each query is answered with what was known when it came."""
