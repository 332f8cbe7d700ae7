"""One step of the adaptive recurrent leaky neuron in Triton kernels."""
