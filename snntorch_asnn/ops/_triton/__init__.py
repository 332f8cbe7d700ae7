"""How Triton kernels are launched."""
