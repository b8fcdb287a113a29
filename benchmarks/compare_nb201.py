"""Compare methods on NAS-Bench-201 on two CPU cores: 17 methods, 3 seeds, 400 steps of a small supernet.

    python benchmarks/compare_nb201.py --data cifar10.parquet --table nasbench201.parquet --out runs/compare --jobs 2

It is `oche compare` with these settings. You may add any option of that command, and run the same line again to continue.
"""

from __future__ import annotations

import sys

from oche.cli.main import main
from oche.study.comparison.settings import DEFAULT_METHODS

SETTING = "--channels 4 --cells 1 --limit 5000 --steps 400 --batch 64 --tried 200 --seeds 0 1 2"

if __name__ == "__main__":
    sys.exit(main(["compare", *SETTING.split(), "--methods", *DEFAULT_METHODS, *sys.argv[1:]]))
