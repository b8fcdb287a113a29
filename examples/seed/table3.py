"""Table 3 of the seed document: the final 14-cell networks, and the same cells transferred to other images.

python examples/seed/table3.py                                                   as published
python examples/seed/table3.py --data my.parquet --transfer my/folder --budget 10m
"""

from __future__ import annotations

from pathlib import Path

from runs import ORDERS, Setting, command, final, length, percent, publish, table, transferred, where

PUBLISHED = {1: ("99.96", "78.28", "99.94", "38.45"), 2: ("99.95", "79.67", "99.94", "46.41")}


def main(setting: Setting) -> None:
    sets = ["CIFAR-10"] + ([Path(setting.transfer).name] if setting.transfer else [])
    known = (
        len(sets) if setting.transfer in (None, "cifar100") else 1
    )  # there are no published results for other images
    columns = [f"{name}: {part} (%)" for name in sets for part in ("train", "test")]
    header = [
        text for i, column in enumerate(columns) for text in ([column, "published"] if i < 2 * known else [column])
    ]
    rows, notes = [], []
    for order, name in ORDERS.items():
        trained = [final(setting, order)] + ([transferred(setting, order)] if setting.transfer else [])
        ours = [percent(run.summary.get(key)) for run in trained for key in ("train_acc", "test_acc")]
        rows.append([name])
        for i, value in enumerate(ours):
            rows[-1] += [value, PUBLISHED[order][i]] if i < 2 * known else [value]
        notes += [f"{name}: {length(run)}; {where(run)}" for run in trained]
    publish(setting, "table3", "\n\n".join([table(["", *header], rows), *notes]))


if __name__ == "__main__":
    command(main, __doc__)
