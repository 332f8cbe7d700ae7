"""Packing and unpacking of spikes in Triton kernels."""
