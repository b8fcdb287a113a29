"""Which images train and which test, as an earlier run recorded them in its manifest. (`oche.data.drawing`: for a new run.)

- `recorded`: the parts of a run that goes on, or is measured or exported.
- `adopt`: the parts of a new run whose test images must be those of an earlier one, such as the training of a found cell.

The earlier run's images are found by their ids, whatever their files are called now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oche.core.errors import OcheError, one_line
from oche.data.dataset import Split
from oche.data.drawing import Parts, absent, draw, joined, leak
from oche.data.manifest import FIRST, SECOND, TEST, UNUSED, Manifest, match
from oche.data.readers.records import RawDataset
from oche.data.splits import balanced_subset

# --- the parts of an earlier run ---------------------------------------------------------------------------------------


def recorded(found: RawDataset, manifest: Manifest, where: str) -> Parts:
    """Return the parts that the run ``where`` recorded in ``manifest``, in its order; images that are new are in no part.

    Labels and classes become those of the manifest, by the names of the classes. Raises `OcheError` if the data are others:
    most images are gone, no test image is left, images changed between the published parts, or are in new classes.
    """
    now = _Now.of(found)
    rows = now.rows_of(manifest)
    used = manifest.parts != UNUSED
    kept = used & (rows >= 0)
    if 2 * int(kept.sum()) < int(used.sum()):
        told = _difference(found, manifest, where) or (
            f"{found.name} holds {int(kept.sum()):,} of the {int(used.sum()):,} images that {where} was begun with, so it is "
            "other data, or changed data"
        )
        raise OcheError(f"{told}; restore the original data, or start anew")
    now.check_parts(manifest, rows, where)
    tested = manifest.members(TEST)
    left = tested[rows[tested] >= 0]
    if len(tested) and not len(left):
        raise OcheError(
            f"none of the {len(tested):,} test images of {where} is left in {found.name}; restore them, or start anew"
        )
    numbers = torch.tensor([_index(manifest.classes, name) for name in found.classes])
    if (strange := numbers[now.labels[rows[kept]]] < 0).any():
        names = sorted({found.classes[k] for k in now.labels[rows[kept]][strange].tolist()})
        raise OcheError(
            f"{where} was begun with the classes {_some(manifest.classes)}, and {int(strange.sum()):,} of its images are in "
            f"{_some(names)} now; rename the classes back, or start anew"
        )
    train = manifest.members(FIRST, SECOND)
    train = train[rows[train] >= 0]
    named = numbers.clamp_min(0)
    splits = [now.take(rows[members]) for members in (train, left)]
    splits = [split.relabelled(named[split.labels]) for split in splits]
    moved = int((named[now.labels[rows[kept]]] != manifest.labels[kept]).sum())
    changes = _told(now, manifest, rows, moved, where, "in no part")
    note = "; ".join(filter(None, (manifest.facts.get("note", ""), changes)))
    parts = replace(
        found, train=splits[0], test=splits[1] if len(tested) else None, classes=manifest.classes, note=note
    )
    return Parts(parts, manifest, manifest.parts[train] == FIRST, changes)


def adopt(found: RawDataset, manifest: Manifest, holdout: float, limit: int | None, seed: int, where: str) -> Parts:
    """Return the parts of a new run whose network must not be tested on images that the run ``where`` saw.

    Its test images are those of ``manifest``, or the published ones. All others train, also new ones; ``limit`` and ``seed``
    choose among them as for any run. ``holdout`` 0: all train, and none is tested. Other data are drawn as for a new run, but
    images that the run ``where`` saw are not held out. Raises `OcheError` if a test image would be one that the run ``where``
    trained or validated on.
    """
    if found.test is None and not holdout:
        return draw(found, holdout, limit, seed)
    now = _Now.of(found)
    rows = now.rows_of(manifest)
    tested = manifest.members(TEST)
    if found.test is None and 2 * int((rows >= 0).sum()) < len(rows):  # other data, perhaps with some of the images
        return draw(found, holdout, limit, seed, manifest.ids[manifest.members(FIRST, SECOND)], where)
    if found.test is None:
        _check_holdout(manifest, holdout, rows[tested], where, found.name)
    else:
        now.check_unseen(manifest, where)
    here = rows >= 0
    new = absent(len(now.ids), rows[here])
    order = torch.cat([rows[here], new])  # as recorded, then what is new
    is_test = torch.zeros(len(now.ids), dtype=torch.bool)
    copies = new[:0]
    if found.test is None:
        is_test[rows[tested][rows[tested] >= 0]] = True
        copies = new[torch.isin(now.ids[new], manifest.ids[tested])]
    else:
        is_test[now.cut :] = True
    codes = torch.full((len(now.ids),), UNUSED, dtype=torch.uint8)
    pool, test = order[~is_test[order] & ~torch.isin(order, copies)], order[is_test[order]]
    if limit is not None:
        pool = pool[balanced_subset(now.labels[pool], limit, seed)]
    codes[pool], codes[test] = FIRST, TEST
    facts = {"holdout": holdout, "limit": limit, "seed": seed}
    made = Manifest(now.ids[order], now.labels[order], codes[order], found.classes, found.test is not None, facts)
    halves, first_half = manifest.halves, None
    if halves is not None and halves[1] == seed and limit == manifest.facts.get("limit"):
        was = torch.full((len(now.ids),), UNUSED, dtype=torch.uint8)
        was[rows[here]] = manifest.parts[here]
        first_half = was[pool] != SECOND
        made = made.divided(first_half, *halves)
    numbers = torch.tensor([_index(manifest.classes, name) for name in found.classes])
    moved = int((numbers[now.labels[rows[here]]] != manifest.labels[here]).sum())
    changes = _told(now, manifest, rows, moved, where, "in training", len(copies))
    train, tests = now.take(pool), now.take(test)
    note = "; ".join(filter(None, (found.note, leak(train, tests), changes)))
    return Parts(replace(found, train=train, test=tests, note=note), made, first_half, changes)


@dataclass(frozen=True)
class _Now:
    """The data as they are now: ids and labels (N,) of all images, the published test images from row ``cut`` on."""

    found: RawDataset
    ids: Tensor
    labels: Tensor
    cut: int

    @classmethod
    def of(cls, found: RawDataset) -> _Now:
        ids, labels = joined(found)
        assert ids is not None
        return cls(found, ids, labels, len(found.train))

    def rows_of(self, manifest: Manifest) -> Tensor:
        """Return the row (M,) of each image of ``manifest``, or −1. A published part is looked for in that part only."""
        if self.found.test is None:
            return match(manifest.ids, self.ids)
        rows = torch.empty(len(manifest.ids), dtype=torch.int64)
        tested = manifest.parts == TEST
        rows[~tested] = match(manifest.ids[~tested], self.ids[: self.cut])
        in_test = match(manifest.ids[tested], self.ids[self.cut :])
        rows[tested] = torch.where(in_test < 0, in_test, in_test + self.cut)
        return rows

    def check_parts(self, manifest: Manifest, rows: Tensor, where: str) -> None:
        """Raise `OcheError` if an image of one part lies in the published other part now."""
        if self.found.test is None:
            return
        for of, into, other in (
            ((TEST,), "training", self.ids[: self.cut]),
            ((FIRST, SECOND), "test", self.ids[self.cut :]),
        ):
            members = manifest.members(*of)
            strayed = int(torch.isin(manifest.ids[members[rows[members] < 0]], other).sum())
            if strayed:
                raise OcheError(
                    f"{strayed:,} {'test' if into == 'training' else 'training'} images of {where} are in the {into} part of "
                    f"{self.found.name} now, so accuracy would be measured on images that were trained on; move them back, or "
                    "start anew"
                )

    def check_unseen(self, manifest: Manifest, where: str) -> None:
        """Raise `OcheError` if the published test part holds images that trained or validated in the run ``where``."""
        seen = manifest.ids[manifest.members(FIRST, SECOND)]
        seen = seen[
            ~torch.isin(seen, manifest.ids[manifest.members(TEST)])
        ]  # those in both parts were so from the start
        count = int(torch.isin(self.ids[self.cut :], seen).sum())
        if count:
            raise OcheError(
                f"{count:,} of the {len(self.ids) - self.cut:,} test images of {self.found.name} are images that {where} has "
                "seen in its training part; move them back, or train on other data without the run: give its genotype"
            )

    def take(self, rows: Tensor) -> Split:
        """Return the split of ``rows``, all of one part."""
        if not len(rows):
            return self.found.train.subset(rows)
        split, start = self.found.train, 0
        if self.found.test is not None and int(rows[0]) >= self.cut:
            split, start = self.found.test, self.cut
        whole = len(rows) == len(split) and torch.equal(rows, torch.arange(start, start + len(split)))
        return split if whole else split.subset(rows - start)


def _difference(found: RawDataset, manifest: Manifest, where: str) -> str:
    """Return the first fact in which other data differ from those of the run ``where``; empty if none does."""
    shape = found.train.shape
    facts = {
        "classes": (list(manifest.classes), list(found.classes)),
        "in_channels": (manifest.facts.get("channels", shape[0]), shape[0]),
        "image": (list(manifest.facts.get("image", shape[1:])), list(shape[1:])),
    }
    for name, (was, now) in facts.items():
        if was != now:
            before, after = (one_line(value)[:80] for value in (was, now))
            return f"{where} was begun with {name} {before}, and {found.name} has {after} now"
    return ""


def _check_holdout(manifest: Manifest, holdout: float, test_rows: Tensor, where: str, name: str) -> None:
    """Raise `OcheError` unless test images of the run ``where`` can test the new run, too."""
    was = manifest.facts.get("holdout", holdout)
    if not manifest.published and was != holdout:
        raise OcheError(
            f"holdout={holdout:g} would test on images that {where} has seen, which held out {was:g}; leave it away, or train "
            "without the run: give its genotype"
        )
    if not len(test_rows):
        raise OcheError(
            f"{where} has no test images, so it has seen all of {name}; use holdout 0, or give its genotype"
        )
    if not (test_rows >= 0).any():
        raise OcheError(
            f"none of the {len(test_rows):,} test images of {where} is left in {name}; restore them, or train without the run: "
            "give its genotype"
        )


def _told(now: _Now, manifest: Manifest, rows: Tensor, moved: int, where: str, new_go: str, copies: int = 0) -> str:
    """Return in one line what is new, gone or in another class since the run ``where`` began; empty if nothing is."""
    new = len(now.ids) - int((rows >= 0).sum()) - copies
    lost = manifest.members(FIRST, SECOND, TEST)
    lost = lost[rows[lost] < 0]
    tests = int((manifest.parts[lost] == TEST).sum())
    gone = f"{len(lost):,} gone" + (f" ({tests:,} of them test images)" if tests else "")
    told = [
        f"{new:,} new ({new_go})" if new else "",
        gone if len(lost) else "",
        f"{moved:,} in another class" if moved else "",
        f"{copies:,} new copies of test images (left out)" if copies else "",
    ]
    told = [text for text in told if text]
    return f"images of {now.found.name} since {where} began: {', '.join(told)}" if told else ""


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
