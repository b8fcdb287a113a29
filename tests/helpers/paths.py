"""Where the repository and the shared data are, from any test."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"  # real data, where they are present
