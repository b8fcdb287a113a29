"""The commands of the command line, by module. Each takes its arguments as a list and prints for people."""
