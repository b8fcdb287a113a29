"""Find the class folders below a folder, for training and for testing, by what lies in the folders and not by name alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oche.core.errors import OcheError, did_you_mean, one_line, plural
from oche.data.readers.listing import Unread, count_loose, folders_in, has_images, list_images, tables_in
from oche.data.readers.records import ROLES, choose_splits, is_split_name

_DEEPEST = 8  # folders around everything that are entered
_MANY = 8  # folders, from which on they are classes, and not looked through for parts in one of them
_WITHOUT_CLASS = frozenset((  # usual names of the one folder of an unlabelled part
    "unknown", "unlabeled", "unlabelled", "images", "image", "imgs", "img", "all", "all_classes", "data", "files",
    "test", "testing", "val", "valid", "validation",
))  # fmt: skip
_FILLERS = frozenset(("set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "seg", "full"))
_NO_CLASSES = frozenset((
    "images", "image", "imgs", "img", "jpegimages", "masks", "mask", "labels", "label", "annotations", "annotation", "gt",
    "groundtruth", "ground_truth", "segmentation", "segmentationclass", "segmentationobject", "thumbnails", "thumbs",
))  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The class folders of the training part and, if there is one, of the test part; and notes about the rest."""

    train: list[Path]
    test: list[Path] | None
    notes: list[str]


def find_layout(root: Path, unread: Unread) -> Layout:
    """Return the layout of ``root``: class folders, or parts that hold them, perhaps with other folders around everything.

    A folder called train is a part if class folders lie in it, and a class if images lie in it beside other such
    folders. Folders around everything are entered. Raises `OcheError` if there are no two classes.
    """
    notes: list[str] = []
    here = root
    for _ in range(_DEEPEST):
        folders = folders_in(here)
        full = [f for f in folders if has_images(f)]
        if not full:
            raise OcheError(f"{here} has no class folders; {_advice(here)}")
        parts = _parts(here, full)
        inner = None if parts else _around(full)
        count_loose(here, unread)
        if inner is None:
            notes += [f"read is {_name(here, root)}"] if here != root else []
            break
        notes += [_unused(f, "beside the folder that is read") for f in full if f != inner]
        here = inner
    else:
        raise OcheError(f"{root} has more than {_DEEPEST} folders around its classes; give the folder that holds them")
    notes += _empty([f for f in folders if f not in full])
    notes += [f"{one_line(table.name)} was not read, since the classes are the folders" for table in tables_in(here)]
    if parts:
        return _chosen(here, parts, [f for f in full if f not in parts], notes, unread)
    _check_classes(here, full)
    return Layout(full, None, [*notes, *_parts_inside(full)])


def _chosen(here: Path, parts: list[Path], others: list[Path], notes: list[str], unread: Unread) -> Layout:
    """Return the layout of the ``parts``: train, and the first labelled one of test and val."""
    by_name = {_split_word(p.name): p for p in reversed(parts)}
    notes = notes + [_unused(p, "a second part of its kind") for p in parts if by_name[_split_word(p.name)] != p]
    train = by_name[choose_splits([*by_name], str(here))[0]]
    unlabelled = [p for p in by_name.values() if p != train and not _labelled(p, train)]
    notes += [_unused(p, "without class folders") for p in unlabelled]
    _, test_name, _ = choose_splits([n for n, p in by_name.items() if p not in unlabelled], str(here))
    test = None if test_name is None else by_name[test_name]
    spare = [p for p in by_name.values() if p not in (train, test, *unlabelled)]
    notes += [_unused(p) for p in spare] + [_unused(p, "neither train, test nor val") for p in others]
    train, test = _entered(train, notes), None if test is None else _entered(test, notes)
    if test is not None and train.resolve() == test.resolve():
        raise OcheError(f"{test} and {train} are the same folder; test images must be others than training images")
    classes, empty = _full_and_empty(train, unread)
    found, missing = (None, []) if test is None else _full_and_empty(test, unread)
    for folder in missing + empty:
        others = [*classes] if folder in missing else [*(found or ()), *missing]
        if folder.name in {f.name for f in others}:
            raise OcheError(f"{folder} has no images; add some or remove the folder")
    _check_classes(train, classes)
    names = {f.name for f in classes}
    if (new := next((f for f in found or () if f.name not in names), None)) is not None:
        hint = did_you_mean(new.name, sorted(names))
        raise OcheError(f"{new} is a class without training images{hint}; remove or rename it")
    _check_apart([*classes, *(found or ())])
    empty = [*empty, *missing]
    return Layout(classes, found, [*notes, *_empty(empty)])


def _parts(here: Path, full: Sequence[Path]) -> list[Path]:
    """Return the folders of ``full`` that are parts; none if they are classes. Raises `OcheError` for parts without classes."""
    named = [f for f in full if is_split_name(f.name)]
    trains = [f for f in named if _split_word(f.name) in ROLES["train"]]
    rest = [f for f in full if f not in named]
    if not trains:
        if named and not rest:
            choose_splits([f.name for f in named], str(here))  # raises: there is no train
        return _loosely_named(full)
    with_classes = [f for f in named if _inner(f)]
    if not with_classes or not any(t in with_classes for t in trains):
        if rest and all(has_images(f, deep=False) for f in trains) and not (len(named) > 1 and tables_in(here)):
            return []  # a class that is called train, beside others
        raise OcheError(f"{trains[0]} holds images without class folders; {_advice(here)}")
    mixed = next((t for t in trains if has_images(t, deep=False)), None)
    if mixed is not None and len(with_classes) == 1 and any(has_images(f, deep=False) for f in rest):
        raise OcheError(
            f"{mixed} holds class folders and images, beside {rest[0].name} with images: move the images out of {mixed.name} if "
            f"it is the training part, or rename it if it is a class"
        )
    return named


def _loosely_named(full: Sequence[Path]) -> list[Path]:
    """Return the folders of ``full`` that are parts called like training_set and test_set, and hold the same classes."""
    words = {f: _split_word(f.name) for f in full}
    parts = [f for f, word in words.items() if is_split_name(word)]
    trains = [f for f in parts if words[f] in ROLES["train"]]
    if not trains or len(parts) < 2:
        return []
    if not any(map(_inner, trains)):
        if len(parts) == len(full) or tables_in(full[0].parent):
            raise OcheError(f"{trains[0]} holds images without class folders; {_advice(full[0].parent)}")
        return []
    inside = [{c.name for c in _inner(_innermost(f))} for f in parts]
    with_classes = [names for names in inside if names]
    return parts if len(with_classes) > 1 and len(set.intersection(*with_classes)) > 1 else []


def _parts_inside(classes: Sequence[Path]) -> list[str]:
    """Return a note if folders of the classes are called train and test: their images are read together."""
    inside = [(c, [f.name for f in _inner(c) if is_split_name(f.name)]) for c in classes]
    found = [(c, names) for c, names in inside if len(names) > 1]
    if not found:
        return []
    where, names = found[0]
    told = f"{' and '.join(map(one_line, names))} in {one_line(where.name)}"
    return [
        f"parts inside of classes are read together, as if they were none: {told} (write train/CLASS, test/CLASS for parts)"
    ]


def _split_word(name: str) -> str:
    """Return the usual word for the part that a folder is called after, or its name in lower case."""
    if is_split_name(name):
        return name.lower()
    words = [w for w in re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if w]
    words = [w.removesuffix("set") if is_split_name(w.removesuffix("set")) else w for w in words]
    known = [w for w in words if is_split_name(w)]
    return known[0] if len(known) == 1 and all(w in known or w in _FILLERS for w in words) else name.lower()


def _around(full: Sequence[Path]) -> Path | None:
    """Return the folder that everything lies in: the only one with images, or the only one with parts in it."""
    if len(full) == 1:
        return full[0] if _inner(full[0]) and not has_images(full[0], deep=False) else None
    if len(full) > _MANY:
        return None
    with_parts = [
        f for f in full if any(_split_word(p.name) in ROLES["train"] and len(_inner(p)) > 1 for p in _inner(f))
    ]
    return with_parts[0] if len(with_parts) == 1 else None


def _inner(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that hold images."""
    return [f for f in folders_in(folder) if has_images(f)]


def _innermost(part: Path) -> Path:
    """Return the folder of ``part`` that holds its class folders: one in it, if there is one alone and classes in that."""
    inner = _inner(part)
    while len(inner) == 1 and not has_images(part, deep=False) and not has_images(inner[0], deep=False):
        part, inner = inner[0], _inner(inner[0])
    return part


def _entered(part: Path, notes: list[str]) -> Path:
    inner = _innermost(part)
    if inner != part:
        notes.append(f"read is {_name(inner, part.parent)}")
    return inner


def _labelled(part: Path, train: Path) -> bool:
    """Tell whether ``part`` has class folders; one folder with a usual name for images without classes is none."""
    classes = {f.name for f in _inner(_innermost(train))}
    inner = _inner(_innermost(part))
    return bool(inner) and not (
        len(inner) == 1 and inner[0].name not in classes and inner[0].name.lower() in _WITHOUT_CLASS
    )


def _full_and_empty(part: Path, unread: Unread) -> tuple[list[Path], list[Path]]:
    """Return the folders in ``part`` with images and those without."""
    count_loose(part, unread)
    folders = folders_in(part)
    full = [f for f in folders if has_images(f)]
    return full, [f for f in folders if f not in full]


def _check_classes(here: Path, folders: Sequence[Path]) -> None:
    """Raise `OcheError` unless there are two or more classes, each in a folder of its own."""
    if not folders:
        raise OcheError(f"{here} has no class folders; {_advice(here)}")
    if len(folders) < 2:
        advice = _advice(here) if tables_in(here) else "give at least 2 classes"
        if len(_inner(folders[0])) > 1:
            advice = f"if the folders in it are the classes, give {folders[0]}"
        raise OcheError(f"{here} has one class folder, {folders[0].name}; {advice}")
    if all(f.name.lower() in _NO_CLASSES for f in folders):
        names = " and ".join(f.name for f in folders)
        raise OcheError(
            f"{here} has {names}, images and their annotations by the names, which are no classes; {_advice(here)}"
        )
    _check_apart(folders)


def _check_apart(folders: Sequence[Path]) -> None:
    """Raise `OcheError` if links make one of ``folders`` another one, or a part of it: its images would be there twice."""
    places: dict[Path, Path] = {}
    for folder in folders:
        other = places.setdefault(folder.resolve(), folder)
        if other != folder:
            raise OcheError(f"{other} and {folder} are the same folder under two names; remove one of the links")
    for place, folder in places.items():
        if (around := next((places[p] for p in place.parents if p in places), None)) is not None:
            raise OcheError(f"{around} leads to a folder that holds the images of {folder} too; remove the link")


def _empty(folders: Sequence[Path]) -> list[str]:
    """Return a note about folders without images."""
    if not folders:
        return []
    names = ", ".join(one_line(f.name) for f in folders[:3]) + (", ..." if len(folders) > 3 else "")
    return [f"{len(folders)} folder{'s have' if len(folders) > 1 else ' has'} no images and so no class: {names}"]


def _unused(folder: Path, why: str = "") -> str:
    """Return a note that ``folder`` is not used, with the number of its images."""
    count = len(list_images(folder, Unread(folder)))
    return f"not used{', ' + why if why else ''}: {one_line(folder.name)} ({plural(count, 'image')})"


def _name(folder: Path, root: Path) -> str:
    return one_line(f"{folder.relative_to(root)} in {root.name}")


def _advice(here: Path) -> str:
    """Return what to do about a folder without class folders, by what lies in it."""
    if tables := tables_in(here):
        return (
            f"{tables[0].name} names too few images in it to be a table of their labels: give it a line for each image, or put "
            "the images of each class in a folder of its name"
        )
    if shards := sorted(p.name for p in here.rglob("*.parquet")):
        return f"it holds {len(shards)} parquet files: give one of them, such as {shards[0]}"
    return "put the images of each class in a folder of its name"
