"""Runs as processes of their own, as many at once as the machine holds."""
