"""The scaling of the adaptive Lapicque neuron's input in a Triton kernel."""
