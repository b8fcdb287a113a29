"""Time and memory of a step in every form of the same computation and in the published code: `oche bench` as a script.

python benchmarks/speed.py --threads 2 --batch 16 --out benchmarks/results/DATE_speed_cpu.md
python benchmarks/speed.py --reference path/to/darts path/to/pc-darts --device cuda --steps 5 --batch 64
"""

import sys

from oche.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
