"""The shared library, without Slicer."""
