"""Where a run computes: devices, number formats, and the processes that share a run."""
