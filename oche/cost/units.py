"""Amounts with units, as people write them: ``5ms``, ``3M`` weights, ``100MFLOPs``. Inside: milliseconds, weights,
FLOPs.
"""

from __future__ import annotations

import re

from oche.core.errors import OcheError

#: kind → {unit in small letters: its size}
UNITS: dict[str, dict[str, float]] = {
    "latency": {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3},
    "parameters": {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9},
    "flops": {
        **{f"{prefix}flops": size for prefix, size in (("", 1.0), ("k", 1e3), ("m", 1e6), ("g", 1e9), ("t", 1e12))},
        **{f"{prefix}macs": 2 * size for prefix, size in (("", 1.0), ("k", 1e3), ("m", 1e6), ("g", 1e9), ("t", 1e12))},
    },
}
EXAMPLES = {"latency": "5ms or 800us", "parameters": "3M or 250k", "flops": "100MFLOPs or 50MMACs"}
_WHAT = {"latency": "a time", "parameters": "a number of weights", "flops": "a number of FLOPs"}


def parse_amount(text: str, kind: str) -> float:
    """Return ``text`` in milliseconds, weights or FLOPs, for ``kind`` "latency", "parameters" or "flops".

    A multiply-add (MAC) is two FLOPs. Raises `OcheError` for a unit of another kind, or if it is no number above 0.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*([A-Za-zµ]*)\s*", text)
    unit = found[2].lower() if found else ""
    if found is None or float(found[1]) <= 0 or unit not in UNITS[kind]:
        other = next((k for k, units in UNITS.items() if found and found[2] and unit in units and k != kind), None)
        hint = f", which is {_WHAT[other]}" if other else ""
        raise OcheError(f"target {text!r}{hint}: the penalty {kind} takes {_WHAT[kind]}; write {EXAMPLES[kind]}")
    return float(found[1]) * UNITS[kind][unit]


def format_amount(value: float, kind: str) -> str:
    """Return ``value`` of that kind as a short text: "4.71 ms", "3.35 M", "1.07 GFLOPs"."""
    if kind == "latency":
        size, unit = (1e3, "s") if value >= 1e3 else (1.0, "ms") if value >= 0.1 else (1e-3, "us")
        return f"{value / size:.3g} {unit}"
    unit = "FLOPs" if kind == "flops" else ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()
