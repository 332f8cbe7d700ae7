"""The adaptive Lapicque neuron."""
