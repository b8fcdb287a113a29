"""Cells that evaluate one candidate an edge, chosen on the device (GDAS)."""
