"""Use of a trained network: loading, evaluation, prediction, export."""
