"""A stand-in for CUDA graphs on the CPU: torch's operations are recorded, and replayed on the same memory without Python."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

REFUSED = {"_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy", "masked_select", "is_nonzero", "equal"}
RANDOM = {"rand", "randn", "randint", "randperm", "bernoulli", "bernoulli_", "uniform_", "normal_", "exponential_"}


class Recorder(TorchDispatchMode):
    """Keeps (operation, arguments, results); undoes what was written to memory that was there before."""

    def __init__(self):
        super().__init__()
        self.tape, self.own, self.before = [], set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in REFUSED or name in RANDOM:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}\nmore lines")
        written = self._written(func, args, kwargs)
        for t in written:
            where = t.untyped_storage()._cdata
            if where not in self.own and where not in self.before:
                self.before[where] = (t.untyped_storage(), t.untyped_storage().clone())
        out = func(*args, **kwargs)
        results = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
        given = {t.untyped_storage()._cdata for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)}
        fresh = [t for t in results if t.untyped_storage()._cdata not in given]
        self.own |= {t.untyped_storage()._cdata for t in fresh}
        if written or fresh:
            # Of results the memory counts; their shapes may be changed in place later on, as a product's by squeeze_.
            aliases = tree_map_only(torch.Tensor, lambda t: t.detach(), out) if fresh else None
            self.tape.append((func, args, kwargs, aliases))
        return out

    @staticmethod
    def _written(func, args, kwargs):
        if func.overloadpacket.__name__ == "native_batch_norm":  # its schema does not own up to the running statistics
            return [t for t in args[3:5] if t is not None]
        found = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[i] if i < len(args) else kwargs.get(argument.name)
                found += [t for t in tree_flatten(value)[0] if isinstance(t, torch.Tensor)]
        return found

    def undo(self):
        for storage, content in self.before.values():
            storage.copy_(content)


class Tape:
    """A `oche.kernels.cuda_graphs.Backend`. ``recorded`` counts recordings, ``replayed`` replays."""

    def __init__(self):
        self.recorded = self.replayed = self.warmed = 0

    def warm(self, run):
        self.warmed += 1
        run()

    def record(self, run):
        recorder = Recorder()
        try:
            with recorder:
                run()
        finally:
            recorder.undo()  # a graph being recorded computes nothing
        for *_, out in recorder.tape:  # nor does its memory hold anything before the first replay
            tree_map_only(torch.Tensor, lambda t: t.untyped_storage().fill_(0xAB % 256), out)
        self.recorded += 1
        return lambda: self._replay(recorder.tape)

    @torch.no_grad()
    def _replay(self, tape):
        self.replayed += 1
        for func, args, kwargs, out in tape:
            again = func(*args, **kwargs)
            if out is not None:
                for old, new in zip(tree_flatten(out)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(old, torch.Tensor) and old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                        old.detach().copy_(new)


class Plain:
    """A backend that repeats by running: the eager loop with the optimisers and buffers of a replayed one."""

    def warm(self, run):
        run()

    def record(self, run):
        return run
