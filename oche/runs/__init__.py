"""Runs: configurations, checked plans, their execution, run directories and checkpoints."""
