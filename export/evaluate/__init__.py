"""What vectors and adapters are worth, task by task, beside raw cosine on the same candidates."""
