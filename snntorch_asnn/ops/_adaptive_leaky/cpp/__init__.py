"""The adaptive leaky neuron's C++ kernels, for CPUs."""
