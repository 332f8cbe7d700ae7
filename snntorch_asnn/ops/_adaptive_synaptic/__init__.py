"""The adaptive synaptic neuron."""
