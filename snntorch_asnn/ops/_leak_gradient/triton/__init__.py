"""The gradient of a clamped leak in a Triton kernel."""
