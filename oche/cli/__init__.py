"""The commands of the command line. Each takes its arguments as a list and prints its results."""
