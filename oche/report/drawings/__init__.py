"""Drawings of cells and networks."""
