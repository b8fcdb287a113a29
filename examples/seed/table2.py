"""Table 2 of the seed document: search with ξ = 0 and ξ > 0, then the found cells trained from scratch; time per search step.

python examples/seed/table2.py                                   as published, on CIFAR-10: days on a CPU
python examples/seed/table2.py --data my.parquet --budget 10m    each run shortened to ten minutes
"""

from __future__ import annotations

from runs import ORDERS, Setting, command, evaluation, length, percent, publish, search, table, where

PUBLISHED = {1: ("99.96", "71.42", "1.07"), 2: ("99.97", "74.64", "2.30")}


def main(setting: Setting) -> None:
    rows, notes = [], []
    for order, name in ORDERS.items():
        found, trained = search(setting, order), evaluation(setting, order)
        ours = (
            percent(trained.summary.get("train_acc")),
            percent(trained.summary.get("val_acc")),
            f"{found.summary['step_ms'] / 1000:.2f}",
        )
        pairs = zip(ours, PUBLISHED[order], strict=True)
        rows.append([name, *(value for pair in pairs for value in pair)])
        notes.append(f"{name}: search {length(found)}; training {length(trained)}; {where(found)}")
    columns = ("train accuracy (%)", "validation accuracy (%)", "time per search step (s)")
    header = ["", *(text for column in columns for text in (column, "published"))]
    publish(setting, "table2", "\n\n".join([table(header, rows), *notes]))


if __name__ == "__main__":
    command(main, __doc__)
