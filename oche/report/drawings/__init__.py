"""Drawings of cells and networks, as SVG text and PNG files."""
