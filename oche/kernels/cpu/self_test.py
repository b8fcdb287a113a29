"""Prove the compiled kernels in a child process before this process loads them, once for each compiled file.

Small supernets and final networks take a forward and a backward pass on the kernels and as plain modules. A kernel that crashes
or computes something else on this processor then harms no run: cells compute in another form, and the log says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.architecture import Mix, alive_candidates, all_alive
from oche.core.genotypes import DARTS_V2
from oche.kernels.cpu import build, discrete
from oche.kernels.cpu.build import Unavailable
from oche.kernels.cpu.cell import NATIVE
from oche.networks.build import build as build_network
from oche.networks.forms import PLAIN, FormModule
from oche.proof import cache as verdicts
from oche.proof.mode import proof_mode
from oche.proof.prove import prove
from oche.proof.values import BF16, FLOAT32, StatelessStep, Step, StepForm, Verdict
from oche.spaces import SPACES
from oche.spaces.base import Space
from oche.spaces.edge_variants import PartialEdge
from oche.spaces.mixed_ops import MixedEdge

IMAGES = 3  # in a batch: an odd number, so that threads get unequal shares
NATIVE_FORM = StepForm("native", "native", about="compiled kernels")
PLAIN_FORM = StepForm("plain", about="plain modules")
TITLE = "compiled kernels, small networks"
TITLE_BF16 = "compiled kernels in bfloat16, small final networks"


def check_native() -> None:
    """Compile the kernels if necessary, and prove them in a child process if they are not proved yet.

    Raises `Unavailable` with the reason if they are not available, or are refuted. A proof that could not be made refutes
    nothing. With OCHE_PROOF=never no proof is made.
    """
    if why := _refutation(str(build.library()), proof_mode() == "never"):
        raise Unavailable(why)


def check_native_bf16() -> None:
    """Check the kernels that multiply bfloat16 numbers, as `check_native` does, against plain modules in float32.

    Raises `Unavailable` too where the processor has no such instructions.
    """
    check_native()
    build.load()
    if not discrete.has_bf16():
        raise Unavailable("the compiled kernels multiply bfloat16 numbers on processors with AVX-512 BF16 only")
    if why := _refutation(str(build.library()), proof_mode() == "never", True):
        raise Unavailable(why)


@cache
def _refutation(library: str, never: bool, bf16: bool = False) -> str:
    """Return why the kernels in the file ``library`` must not be used, "" if they may."""
    verdict = known_verdict(library, bf16)
    if verdict is None and not never:
        verdict = new_verdict(library, bf16)
    proof = None if verdict is None else verdict.of("native")
    if proof is None or proof.agrees:
        return ""
    return f"the compiled kernels did not pass their test on this machine{' in bfloat16' * bf16} ({proof.why})"


FORMS = (NATIVE_FORM, PLAIN_FORM)


def step_for(library: str, bf16: bool = False) -> Step:
    """Return the test of the kernels in the file ``library``."""
    settings = {"library": library, "bf16": True} if bf16 else {"library": library}
    title = TITLE_BF16 if bf16 else TITLE
    return Step("oche.kernels.cpu.self_test:make", settings, title, steps=1, bounds=BF16 if bf16 else FLOAT32)


def known_verdict(library: str, bf16: bool = False) -> Verdict | None:
    """Return the verdict on the kernels in the file ``library`` that is kept, None if there is none."""
    return verdicts.recall(step_for(library, bf16), FORMS, verdicts.describe_machine(torch.device("cpu")))


def new_verdict(library: str, bf16: bool = False) -> Verdict:
    """Prove the kernels in the file ``library`` now, and keep the verdict."""
    step, machine = step_for(library, bf16), verdicts.describe_machine(torch.device("cpu"))
    return verdicts.remember(step, FORMS, machine, prove(step, FORMS))[0]


# --- the child --------------------------------------------------------------------------------------------------------


def make(settings: Mapping[str, Any], form: StepForm | None) -> SmallNetworks:
    """Return the networks in ``form``; None: as plain modules."""
    # The file is found again by what it is compiled from.
    return SmallNetworks(form is not None and form.flow == "native", bool(settings.get("bf16")))


class SmallNetworks(StatelessStep):
    """Networks that a step passes forward and backward."""

    def __init__(self, native: bool, bf16: bool = False) -> None:
        """``bf16``: final networks only, on the kernels with products in bfloat16; plain modules compute in float32."""
        if native:
            build.load()
        torch.manual_seed(0)
        self.bf16 = native and bf16
        self.networks = [*(_final_networks() if bf16 else _networks())]
        for net, *_ in self.networks:
            net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            for module in net.modules():
                if isinstance(module, FormModule):
                    module.form = NATIVE if native else PLAIN
        self.loss = torch.zeros(())

    def take(self, step: int) -> None:
        total = torch.zeros(())
        for net, x, mixes in self.networks:
            for weight in net.parameters():
                weight.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16, cache_enabled=False):
                out = net(x) if mixes is None else net(x, mixes)
            logits = out[0] if isinstance(out, tuple) else out
            total = total + F.cross_entropy(logits.float(), torch.arange(len(x)) % logits.shape[1])
        total.backward()
        self.loss = total.detach()

    def evidence(self) -> dict[str, dict[str, Tensor]]:
        nets = [*enumerate(net for net, *_ in self.networks)]
        weights = {
            f"{i}.{n}": w.grad.clone() for i, net in nets for n, w in net.named_parameters() if w.grad is not None
        }
        buffers = {f"{i}.{n}": b.clone() for i, net in nets for n, b in net.named_buffers() if b.is_floating_point()}
        return {"loss": {"loss": self.loss.clone()}, "gradients": weights, "statistics": buffers}


def _networks() -> Iterator[tuple[nn.Module, Tensor, dict[str, Mix] | None]]:
    """Yield networks with inputs: all candidates; channels that fill vectors, and that do not; odd sizes; partial channels."""
    for name, channels, side, edge in (
        ("darts", 16, 10, MixedEdge()), ("darts", 5, 9, MixedEdge()), ("darts", 16, 8, PartialEdge()),
        ("nb201", 16, 8, MixedEdge()),
    ):  # fmt: skip
        small = {"cells": 3, "nodes": 2} if name == "darts" else {"cells": 1}
        space: Space = SPACES[name](channels=channels, image=(side, side), **small)
        count = len(space.candidates)
        mixes = {
            group: Mix(torch.softmax(torch.randn(len(dag), count), 1), None, alive_candidates(all_alive(dag, count)))
            for group, dag in space.groups.items()
        }
        yield space.supernet(edge), _images(side), mixes
    yield from _final_networks()


def _final_networks() -> Iterator[tuple[nn.Module, Tensor, dict[str, Mix] | None]]:
    """Yield final networks, whose channels fill no vectors, or almost."""
    for channels in (12, 36):
        net = build_network(DARTS_V2, classes=10, channels=channels, cells=3, auxiliary=False, image=(8, 8))
        yield net, _images(8), None


def _images(side: int) -> Tensor:
    return torch.randn(IMAGES, 3, side, side).contiguous(memory_format=torch.channels_last)
