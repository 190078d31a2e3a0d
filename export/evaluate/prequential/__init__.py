"""Streams replayed as the service meets them: each query is answered with what was known when it came."""
