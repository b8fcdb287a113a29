"""What is done with a trained network: load, evaluate, predict, export."""
