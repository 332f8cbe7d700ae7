"""The stages of ``benchmarks/gpu.py``, and the processes that they run in."""
