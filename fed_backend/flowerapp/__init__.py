"""The folder that `flwr run` bundles and sends. It is a package only so that it is installed with the others; it holds no code."""
