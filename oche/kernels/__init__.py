"""Fast implementations of cells: the numbers of the plain modules with fewer passes over memory."""
