"""`oche doctor`, typed."""

import json

from oche.bench.facts import Fact
from oche.cli import doctor


def test_json_and_the_exit_code(monkeypatch, capsys):
    asked = []

    def examine(quick, say):
        asked.append(quick)
        return [Fact("GPU", "driver", "is too old", "wrong", "install another")]

    monkeypatch.setattr("oche.bench.doctor.examine", examine)
    assert doctor.doctor(["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "works": False, "install": ["install another"],
        "facts": [{"part": "GPU", "name": "driver", "value": "is too old", "level": "wrong", "install": "install another"}],
    }  # fmt: skip
    assert doctor.doctor(["--quick"]) == 1 and asked == [False, True]
    assert "! driver           is too old" in capsys.readouterr().out
