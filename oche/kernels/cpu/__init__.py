"""Cells on C++ kernels, which are compiled once per machine."""
