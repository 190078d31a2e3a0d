"""The command line. Importing it loads no numpy, no faust and no onnxruntime."""
