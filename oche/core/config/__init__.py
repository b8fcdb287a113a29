"""Configurations: dataclasses to and from YAML, and to command-line arguments."""
