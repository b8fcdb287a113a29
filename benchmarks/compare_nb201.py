"""The comparison of methods on NAS-Bench-201 that two CPU cores can do: 17 methods, 3 seeds, 400 steps of a small supernet.

    python benchmarks/compare_nb201.py --data cifar10.parquet --table nasbench201.parquet --out runs/compare --jobs 2

It is `oche compare` with these settings; whatever else that command takes may be added, and the same line given again.
"""

from __future__ import annotations

import sys

from oche.cli.main import main
from oche.study.comparison.settings import DEFAULT_METHODS

SETTING = "--channels 4 --cells 1 --limit 5000 --steps 400 --batch 64 --tried 200 --seeds 0 1 2"

if __name__ == "__main__":
    sys.exit(main(["compare", *SETTING.split(), "--methods", *DEFAULT_METHODS, *sys.argv[1:]]))
