"""Pure functions over whole sequences: state in, state out."""

from snntorch_asnn.ops.adaptive_leaky import adaptive_leaky

__all__ = ["adaptive_leaky"]
