"""`oche bench`: what a step costs in each form of the same computation, measured so that the forms can be compared."""
