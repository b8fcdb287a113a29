"""What a network costs: parameters, FLOPs, time; of a cell that is still a mixture the expected cost.

`parameters` and `flops` count one network. `oche.cost.breakdown` finds the parts of a space's networks, `oche.cost.expected_cost` what
every candidate on every edge adds to them, `oche.cost.latency_table` keeps measured times.
"""

from oche.cost.counters import flops, parameters

__all__ = ["flops", "parameters"]
