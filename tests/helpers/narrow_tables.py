"""A table, and the columns that terminals of several widths have no room for."""

HEAD = ("method", "true test accuracy (%)", "regret (points)", "n")
ROWS = [("darts-2nd", "93.25 ± 0.41", "1.12", "3"), ("gdas", "90.00", "4.37", "1")]
IMPORTANT = ("method", "true test accuracy (%)", "regret (points)")
LEFT_OUT = [
    (80, []),
    (36, []),
    (35, ["n"]),
    (30, ["regret (points)", "n"]),
    (20, ["true test accuracy (%)", "regret (points)", "n"]),
]
"""(width in columns, heads of the columns that are left out)"""
