"""Run directories: what a run is told, how it is planned, carried out, saved and resumed."""
