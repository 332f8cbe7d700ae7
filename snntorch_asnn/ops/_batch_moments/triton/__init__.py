"""The moments of a batch norm in Triton kernels."""
