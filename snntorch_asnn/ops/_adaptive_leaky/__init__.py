"""The adaptive leaky integrate-and-fire neuron over a sequence: equation, engine and implementations."""
