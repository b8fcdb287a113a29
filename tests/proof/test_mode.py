"""OCHE_PROOF."""

import pytest

from oche.core.errors import OcheError
from oche.proof.mode import proof_mode


@pytest.mark.parametrize(("value", "mode"), [("", "auto"), ("auto", "auto"), ("always", "always"), ("never", "never")])
def test_modes(monkeypatch, value, mode):
    monkeypatch.setenv("OCHE_PROOF", value)
    assert proof_mode() == mode


def test_unset_is_auto(monkeypatch):
    monkeypatch.delenv("OCHE_PROOF")
    assert proof_mode() == "auto"


def test_other_values_are_refused(monkeypatch):
    monkeypatch.setenv("OCHE_PROOF", "yes")
    with pytest.raises(OcheError, match="OCHE_PROOF=yes is unknown; use auto, always, never"):
        proof_mode()
