"""Choose how the cells of a network compute.

A `Form` is an implementation of cells. Parameters, buffers and state dicts are those of the plain modules in every
form, so checkpoints can be loaded in any form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from oche.core.errors import OcheError
from oche.kernels import shared
from oche.kernels.cpu import build as native
from oche.kernels.cpu import cell as native_cell
from oche.kernels.cpu.build import Unavailable
from oche.kernels.cpu.self_test import check_native
from oche.kernels.triton import cell as gpu
from oche.kernels.triton.cell import refusal
from oche.networks.forms import PLAIN, FormModule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oche.networks.forms import Form

EngineMode = Literal["auto", "fused", "plain"]
FORMS = ("plain", "shared", "native", "gpu")


def form(name: str) -> Form:
    """Return the form called ``name``. "native" compiles its kernels if necessary, and raises
    `oche.kernels.cpu.build.Unavailable`.
    """
    if name == "native":
        native.load()
        return native_cell.NATIVE
    if name == "shared":
        return shared.SHARED
    if name == "gpu":
        return gpu.GPU
    if name == "plain":
        return PLAIN
    raise OcheError(f"unknown form {name!r}; known: {', '.join(FORMS)}")


def set_form(net: nn.Module, form: Form) -> None:
    """Let every cell of ``net`` compute in ``form``."""
    for module in net.modules():
        if isinstance(module, FormModule):
            module.form = form


def plain_form(net: nn.Module) -> AbstractContextManager[None]:
    """Within, ``net`` computes in the plain form, which has derivatives of every order."""
    return temporary_form(net, PLAIN)


@contextmanager
def temporary_form(net: nn.Module, form: Form) -> Iterator[None]:
    """Within, every cell of ``net`` computes in ``form``."""
    before = {module: module.form for module in net.modules() if isinstance(module, FormModule)}
    set_form(net, form)
    try:
        yield
    finally:
        for module, kept in before.items():
            module.form = kept


@dataclass(frozen=True)
class Choice:
    """A form, and why it was chosen."""

    form: Form
    why: str


def apply_form(
    net: nn.Module,
    engine: EngineMode,
    device: torch.device,
    dtype: torch.dtype,
    *,
    twice: bool = False,
    mixed: bool = True,
) -> str:
    """Let the cells of ``net`` compute in the form that `choose` returns. Return the reason, or "" for a network
    without cells.

    A network with forms of its own has a method ``apply_form``.
    """
    if own := getattr(net, "apply_form", None):
        return own(engine)
    if not any(isinstance(module, FormModule) for module in net.modules()):
        return ""
    choice = choose(engine, device, dtype, twice=twice, mixed=mixed)
    set_form(net, choice.form)
    return choice.why


def apply_named_form(net: nn.Module, name: str, why: str) -> str:
    """Let the cells of ``net`` compute in the form called ``name``. Return ``why``, or "" for a network without cells."""
    if not any(isinstance(module, FormModule) for module in net.modules()):
        return ""
    set_form(net, form(name))
    return why


def choose(
    engine: EngineMode, device: torch.device, dtype: torch.dtype, *, twice: bool = False, mixed: bool = True
) -> Choice:
    """Return the fastest form that the device and the installed tools allow.

    ``engine``: "plain" chooses plain modules; "fused" never does, and raises `OcheError` with the obstacle; "auto"
    chooses them where it must, and says why. ``twice``: second derivatives are needed. ``mixed``: edges have several
    candidates. Discrete cells share little work, so plain modules are faster for them in pure torch.
    """
    import torch

    if engine not in get_args(EngineMode):
        raise OcheError(f"engine={engine!r} is unknown; use {', '.join(get_args(EngineMode))}")
    if engine == "plain":
        return Choice(form("plain"), "as plain modules, as asked")
    if dtype not in (torch.float32, torch.float64):
        return _plain(engine, f"fused forms compute in float32 or float64, not in {dtype}")
    if device.type == "cpu":
        return (
            Choice(form("shared"), "fused, in pure torch, for second derivatives") if twice else _on_cpu(engine, mixed)
        )
    if device.type == "cuda":
        return _on_gpu(engine, device, twice, mixed)
    return _plain(engine, f"there is no fused form for {device.type}")


def _plain(engine: EngineMode, obstacle: str) -> Choice:
    if engine == "fused":
        raise OcheError(f"engine='fused': {obstacle}; use engine='plain', or 'auto'")
    return Choice(form("plain"), f"as plain modules: {obstacle}")


def _on_cpu(engine: EngineMode, mixed: bool) -> Choice:
    try:
        check_native()
        return Choice(form("native"), "fused, on compiled kernels")
    except Unavailable as error:
        if not mixed:
            return _plain(engine, str(error))
        return Choice(form("shared"), f"fused, in pure torch ({error})")


def _on_gpu(engine: EngineMode, device: torch.device, twice: bool, mixed: bool) -> Choice:
    """The GPU form is used only on request, or by `oche.runs.proving` where it was proved."""
    if engine == "auto":
        return _plain(engine, "fast forms for GPUs are tried before long runs only, --engine fused takes them untried")
    if not mixed:
        return Choice(form("plain"), "as plain modules, whole steps replayed from CUDA graphs (unmeasured)")
    if twice:
        return _plain(engine, "this method takes second derivatives, which the kernels for GPUs do not have")
    if (reason := refusal(device)) is not None:
        return _plain(engine, reason)
    return Choice(form("gpu"), "fused, on Triton's kernels and CUDA graphs (unmeasured)")
