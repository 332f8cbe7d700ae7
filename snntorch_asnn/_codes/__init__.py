"""What :mod:`snntorch_asnn.spikegen` is made of."""
