"""From text to unit vectors: artifact (files on disk), tokenizer, ONNX session."""
