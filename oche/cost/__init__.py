"""Costs of networks: parameters, FLOPs and latency, of a single network and in expectation under a mixture.

`parameters` and `flops` count one network. `oche.cost.breakdown` finds the parts of a space's networks,
`oche.cost.expected_cost` computes what each candidate on each edge adds to them, and `oche.cost.latency_table` stores
measured times.
"""

from oche.cost.module_cost import flops, parameters

__all__ = ["flops", "parameters"]
