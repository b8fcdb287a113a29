"""Cells on C++ kernels, compiled once for the machine at hand."""
