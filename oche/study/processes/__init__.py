"""Runs in processes of their own, as many at a time as the machine can hold."""
