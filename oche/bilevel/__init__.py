"""The search loop: weights and architecture trained in turn, detection of collapse, and CUDA graphs of the steps."""
