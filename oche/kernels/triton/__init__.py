"""Cells on Triton kernels, for CUDA."""
