"""The adaptive leaky neuron's Triton kernels, for GPUs."""
