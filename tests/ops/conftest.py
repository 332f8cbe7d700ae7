"""What pytest passes over here."""

collect_ignore = ["launch_without_a_gpu.py", "trace_batches.py"]
"""Scripts that tests run in processes of their own, beside which lies what they import."""
