"""What a network costs: parameters, FLOPs, time; of a cell that is still a mixture the expected cost.

`parameters` and `flops` count one network. `oche.cost.survey` finds the parts of a space's networks, `oche.cost.prices` what
every candidate on every edge adds to them, `oche.cost.table` keeps measured times.
"""

from .count import flops, parameters

__all__ = ["flops", "parameters"]
