"""Judge vectors and adapters task by task, beside raw cosine on the same candidates."""
