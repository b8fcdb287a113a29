"""Time of a recurrent cell in its fused form and as plain modules, in one process, in turns.

A measurement is one forward and backward pass: of the supernet (gradients of weights and mixture) and of the published DARTS
cell (gradients of weights); of the cell alone, and of the whole language model with its decoder. It is the median CPU time of
--repeats, which other work on the machine changes little.

python benchmarks/recurrent.py --batch 32 --bptt 35 --width 300
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from oche.core.architecture import Mix, all_alive
from oche.methods.relaxations import Softmax
from oche.spaces import RecurrentNetwork, recurrent
from oche.training.text_batches import word_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("batch", 32),
        ("bptt", 35),
        ("width", 300),
        ("vocabulary", 10_000),
        ("repeats", 3),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, {given.threads} thread(s), batch {given.batch}, bptt {given.bptt}, width {given.width}"
    )
    print("| what | plain, s | fused, s | ratio |\n|---|---|---|---|")
    for what, net, run in settings(given):
        times: dict[str, list[float]] = {"plain": [], "fused": []}
        for repeat in range(given.repeats + 1):
            for form, seconds in times.items():
                net.apply_form(form)
                began = time.process_time()
                run()
                if repeat:  # the first run of each fills caches and allocators
                    seconds.append(time.process_time() - began)
        plain, fused = (statistics.median(seconds) for seconds in times.values())
        print(f"| {what} | {plain:.2f} | {fused:.2f} | {plain / fused:.2f} |", flush=True)


def settings(given: argparse.Namespace) -> list[tuple[str, RecurrentNetwork, Callable[[], None]]]:
    """Yield (description, network, a function that does one forward and backward pass)."""
    tokens = torch.randint(given.vocabulary, (given.bptt, given.batch))
    space = recurrent(width=given.width, vocabulary=given.vocabulary)
    supernet, found = space.supernet(), RecurrentNetwork("DARTS_RNN_V2", given.vocabulary, given.width)
    logits = torch.zeros(len(space.dag), len(space.candidates), requires_grad=True)

    def mixes() -> dict[str, Mix]:
        alive = all_alive(space.dag, len(space.candidates))
        return {"recurrent": Softmax()(logits, alive, space.dag, None, 0.0)}

    def whole(net, *inputs) -> Callable[[], None]:
        return lambda: word_loss(net(tokens, *(i() for i in inputs), None, net.masks(given.batch)), tokens).backward()

    def cell(net, *inputs) -> Callable[[], None]:
        x, state, m = (
            torch.randn(given.bptt, given.batch, given.width),
            net.start(given.batch)[0],
            net.masks(given.batch),
        )
        return lambda: net.cell(x, state, m.input, m.hidden, *(i()["recurrent"] for i in inputs)).sum().backward()

    return [
        ("supernet: cell", supernet, cell(supernet, mixes)),
        ("supernet: language model", supernet, whole(supernet, mixes)),
        ("found cell", found, cell(found)),
        ("found cell: language model", found, whole(found)),
    ]  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    main()
