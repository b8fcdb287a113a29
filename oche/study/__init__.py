"""Studies: many trials (method × space × data × seed × settings), each a function of (configuration, directory)."""
