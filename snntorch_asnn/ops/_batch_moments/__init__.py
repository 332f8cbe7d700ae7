"""Mean and variance of a batch norm, and the gradient through them."""
