"""A local stack from wheels: broker, Redis and worker as child processes on loopback ports."""
