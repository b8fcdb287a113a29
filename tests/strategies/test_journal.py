"""The journal: whole lines only, whatever happens."""

import pytest

from oche.core.errors import OcheError
from oche.strategies.journal import Journal, MemoryJournal, read_journal

EVENTS = [
    {"event": "start", "settings": {}},
    {"event": "ask", "trial": 0},
    {"event": "tell", "trial": 0, "score": None},
]


def test_a_torn_last_line_is_dropped(tmp_path):
    file = tmp_path / "journal.jsonl"
    journal = Journal(file)
    for event in EVENTS:
        journal.append(event)
    whole = file.read_bytes()
    for cut in (1, 5, len(b'{"event": "tell", "trial": 0, "score": null}\n') - 1):
        file.write_bytes(whole[:-cut])
        assert read_journal(file) == EVENTS[:2]
        again = Journal(file)
        again.append(EVENTS[2])
        assert file.read_bytes() == whole and read_journal(file) == EVENTS


def test_what_json_lacks_becomes_null(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append({"event": "tell", "trial": 0, "score": float("-inf")})
    assert read_journal(tmp_path / "j") == [{"event": "tell", "trial": 0, "score": None}]


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"event": "other"}'])
def test_damage_elsewhere_is_named(tmp_path, line):
    (tmp_path / "j").write_bytes(b'{"event": "start"}\n' + line + b'\n{"event": "ask"}\n')
    with pytest.raises(OcheError, match="line 2 is damaged"):
        Journal(tmp_path / "j")


def test_a_journal_in_memory_keeps_what_is_written():
    journal = MemoryJournal(EVENTS[:1])
    journal.append(EVENTS[1])
    assert journal.events == EVENTS[:1] and journal.written == EVENTS[1:2]
