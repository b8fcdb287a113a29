"""Table 1 of the seed document: iterations and time per iteration of the toy bilevel problem, by look-ahead step ξ.

python examples/seed/table1.py
"""

from __future__ import annotations

from runs import Setting, command, publish, table

from oche.methods.toy_problem import PUBLISHED, experiment

SECONDS = {0.0: 4.4e-4, 0.3: 9.0e-4, 0.5: 9.1e-4, 0.7: 9.3e-4}  # the seed's, per iteration


def main(setting: Setting) -> None:
    """Make the table. The budget is ignored, since the experiment takes a second."""
    rows = [
        [
            f"{run['xi']:g}", str(run["iterations"]), str(PUBLISHED[run["xi"]]),
            f"{run['seconds_per_iteration']:.1e}", f"{SECONDS[run['xi']]:.1e}", "({:.4f}, {:.4f})".format(*run["final"]),
        ]
        for run in experiment()["runs"]
    ]  # fmt: skip
    header = ["ξ", "iterations", "published", "s per iteration", "published", "ends at (α, w)"]
    publish(setting, "table1", table(header, rows))


if __name__ == "__main__":
    command(main, __doc__)
