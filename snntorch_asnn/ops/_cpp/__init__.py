"""How C++ kernels are built and loaded."""
