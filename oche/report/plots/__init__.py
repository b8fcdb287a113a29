"""Figures drawn with matplotlib: mixture weights, curves, classification, studies."""
