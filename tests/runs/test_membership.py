"""The record of a run's data: what is written, what is read on other ranks, and what changes of a text count."""

import json

import pytest
import torch

from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import load
from oche.data.manifest import FIRST, SECOND, TEST, UNUSED
from oche.data.text.corpus import Corpus
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import RunDir
from oche.runs.membership import ENVIRONMENT, MANIFEST, MARK, TEXT, Earlier, check_text, record, text_changes
from oche.training.image_recipes import small

LOG = Log(quiet=True)


def test_a_search_records_its_halves(searched):
    earlier = Earlier.read(searched.path, LOG)
    data = load("digits", limit=60)
    manifest = earlier.manifest
    counts = torch.bincount(manifest.parts.long(), minlength=4).tolist()
    assert [counts[k] for k in (FIRST, SECOND)] == [30, 30] and counts[TEST] == len(data.test)
    assert counts[UNUSED] == 1797 - 60 - len(data.test) and len(manifest.ids) == 1797
    assert manifest.ids[manifest.members(FIRST, SECOND)].tolist() == data.train.ids.tolist()
    assert manifest.facts["seed"] == 0 and manifest.facts["split"] == 0.5 and manifest.facts["image"] == [8, 8]
    assert json.loads((searched.path / ENVIRONMENT).read_text())[MARK] is True and earlier.begun


@pytest.mark.parametrize(("split", "second"), [(1.0, 0), (0.75, 15)])
def test_a_training_records_the_part_that_it_holds_out(tmp_path, split, second):
    config, data = TrainConfig(train=small(split=split), limit=60), load("digits", limit=60)
    with RunDir.create(tmp_path / "x", "", "train") as run:
        assert record(run, config, data) == {MARK: True}
    manifest = Earlier.read(tmp_path / "x", LOG).manifest
    assert len(manifest.members(SECOND)) == second and (manifest.halves is None) == (split == 1)


def test_data_without_ids_leave_no_record(tmp_path):
    data = load("digits", limit=60)
    bare = type(data)(data.name, data.train, data.test, data.classes, data.mean, data.std, data.augment)
    with RunDir.create(tmp_path / "x", "", "search") as run:
        assert record(run, SearchConfig(), bare) == {}
    assert Earlier.read(tmp_path / "x", LOG).manifest is None and not (tmp_path / "x" / MANIFEST).exists()


class TwoRanks:
    """Rank 0 or 1 of two, which find in ``sent`` what rank 0 broadcasts."""

    is_distributed = True

    def __init__(self, rank: int, sent: list[bytes]) -> None:
        self.is_main, self.sent = rank == 0, sent

    def broadcast(self, data: bytes) -> bytes:
        if self.is_main:
            self.sent.append(data)
        return self.sent[0]

    def raise_together(self):
        from contextlib import nullcontext

        return nullcontext()


def test_other_ranks_read_what_rank_0_sends(searched, tmp_path):
    sent: list[bytes] = []
    first = Earlier.shared(searched.path, LOG, TwoRanks(0, sent))
    other = Earlier.shared(tmp_path / "not there", LOG, TwoRanks(1, sent))
    assert other.manifest.ids.tolist() == first.manifest.ids.tolist() and other.begun and other.text is None
    assert other.manifest.facts == Earlier.read(searched.path, LOG).manifest.facts


def test_parts_of_what_is_no_run_are_refused(tmp_path):
    from oche.devices.launch import join_process_group

    config = TrainConfig(parts=tmp_path)
    with pytest.raises(OcheError, match="is not a run directory, so its test images are not known"):
        Earlier.named_by(config, LOG, join_process_group())
    assert Earlier.named_by(TrainConfig(), LOG, join_process_group()) is None


# --- text ----------------------------------------------------------------------------------------------------------------

WORDS = ["a", "b", "<eos>", "<unk>"]


def corpus(train=(0, 1, 2), valid=(1, 2), test=(0, 2), vocabulary=WORDS, tokens="words") -> Corpus:
    made = [None if part is None else torch.tensor(part) for part in (train, valid, test)]
    return Corpus("my.txt", *made, vocabulary, tokens)


@pytest.mark.parametrize(
    ("now", "changed", "told"),
    [
        (dict(), {}, []),
        (dict(train=(0, 1, 2, 0)), {}, ["train: 3 -> 4 tokens"]),
        (dict(train=(0, 1, 2, 0)), {"limit": 5}, []),
        (dict(valid=(2, 1)), {}, ["valid: other tokens"]),
        (dict(test=None), {}, ["test: 2 -> none tokens"]),
        (
            dict(vocabulary=["b", "a", "<eos>", "<unk>"]),
            {},
            ["train: other tokens", "valid: other tokens", "test: other tokens"],
        ),
        (dict(tokens="characters", test=(1,)), {}, []),
    ],
)
def test_a_text_is_compared_part_by_part(tmp_path, now, changed, told):
    config = TrainConfig(data="my.txt")
    with RunDir.create(tmp_path / "x", "", "train") as run:
        record(run, config, corpus())
    text = json.loads((tmp_path / "x" / TEXT).read_text())
    assert text_changes(text, corpus(**now), TrainConfig(data="my.txt", **changed)) == told


@pytest.mark.parametrize(
    ("now", "all_parts", "refused"),
    [
        (dict(train=(0, 1)), True, True),
        (dict(train=(0, 1)), False, False),
        (dict(test=(0, 1, 2)), False, True),
        (dict(valid=(0, 1, 2)), False, True),
    ],
)
def test_other_test_text_is_refused(tmp_path, capsys, now, all_parts, refused):
    config = TrainConfig(data="my.txt")
    with RunDir.create(tmp_path / "x", "", "train") as run:
        record(run, config, corpus())
    earlier = Earlier.read(tmp_path / "x", LOG)
    if refused:
        with pytest.raises(
            OcheError, match=r"the parts of my.txt are not those that .*x was begun with \(its text has"
        ):
            check_text(earlier, corpus(**now), config, LOG, all_parts=all_parts)
    else:
        check_text(earlier, corpus(**now), config, LOG, all_parts=all_parts)
        assert (
            capsys.readouterr().err
            == f"the text my.txt has changed since {tmp_path / 'x'} began: train: 3 -> 2 tokens\n"
        )
    with pytest.raises(OcheError, match=r"holdout=0.4 instead of 0.2"):
        check_text(earlier, corpus(valid=(0, 1, 2)), TrainConfig(data="my.txt", holdout=0.4), LOG, all_parts=False)
