"""Spikes kept for the backward pass at one bit each."""
