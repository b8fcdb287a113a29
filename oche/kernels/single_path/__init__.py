"""Cells that evaluate one candidate per edge, chosen on the device (GDAS)."""
