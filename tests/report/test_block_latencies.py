"""A run's chain is drawn with what its search measured."""

from dataclasses import replace

from oche.core.blocks import chain_genotype
from oche.core.genotypes import get
from oche.cost.latency_table import LatencyTable, Timing
from oche.report.block_latencies import known_latencies
from oche.report.read_run import RunData

CHAIN = chain_genotype(["conv_k3_c4", "mb_k3_e1_c4", "conv_k1_c8"])


def run(path, **fields):
    known = dict.fromkeys(RunData.__dataclass_fields__)
    return RunData(**{**known, "path": path, "genotype": CHAIN, "space": {"image": [8, 8], "in_channels": 3}, **fields})


def test_latencies_are_those_of_the_search(tmp_path):
    assert known_latencies(run(tmp_path)) == {}
    LatencyTable({}, entries={"mb_k3_e1 4x8x8 stride 1": Timing(1.5, 1, 2, 7)}).write(tmp_path / "latencies.json")
    found = run(tmp_path)
    assert known_latencies(found) == known_latencies(replace(found, path=tmp_path / "train")) == {2: 1.5}
    assert known_latencies(replace(found, genotype=get("DARTS_V2"))) == known_latencies(replace(found, space={})) == {}
    (tmp_path / "latencies.json").write_text("{}")
    assert known_latencies(found) == {}
