"""The search: weights and architecture trained in turn, signs of collapse, CUDA graphs of its steps."""
