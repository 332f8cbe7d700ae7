"""The stages of ``benchmarks/gpu.py`` and their processes."""
