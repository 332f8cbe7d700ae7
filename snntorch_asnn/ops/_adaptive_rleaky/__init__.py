"""The adaptive recurrent leaky neuron."""
