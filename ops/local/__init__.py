"""A local stack from wheels: broker, Redis and services as child processes on loopback ports."""
