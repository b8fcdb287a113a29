"""The seed's Table 3: the final 14-cell networks, and the same cells transferred to other images.

python examples/seed/table3.py                                                   as published
python examples/seed/table3.py --data my.parquet --transfer my/folder --budget 10m
"""

from __future__ import annotations

from runs import ORDERS, Setting, command, final, length, percent, publish, table, transferred, where

PUBLISHED = {1: ("99.96", "78.28", "99.94", "38.45"), 2: ("99.95", "79.67", "99.94", "46.41")}


def main(setting: Setting) -> None:
    rows, notes = [], []
    for order, name in ORDERS.items():
        trained = [final(setting, order)] + ([transferred(setting, order)] if setting.transfer else [])
        ours = [percent(run.summary.get(key)) for run in trained for key in ("train_acc", "test_acc")]
        pairs = zip(ours, PUBLISHED[order], strict=False)
        rows.append([name, *(value for pair in pairs for value in pair)])
        notes += [f"{name}: {length(run)}; {where(run)}" for run in trained]
    columns = ["CIFAR-10 train (%)", "CIFAR-10 test (%)", "CIFAR-100 train (%)", "CIFAR-100 test (%)"]
    columns = columns if setting.transfer else columns[:2]
    names = [setting.data] * 2 + [str(setting.transfer)] * 2
    pairs = zip((f"{n}: {c.split()[1]} (%)" for n, c in zip(names, columns, strict=False)), columns, strict=True)
    header = ["", *(text for ours, published in pairs for text in (ours, f"published: {published}"))]
    publish(setting, "table3", "\n\n".join([table(header, rows), *notes]))


if __name__ == "__main__":
    command(main, __doc__)
