"""Read by Python at its start in the processes that tests start, see ``tests/conftest.py``.

They do not import torch's compiler, which takes two seconds, and which nothing in oche uses. With OCHE_TEST_REPORTS=none they
draw no reports, which takes longer than their runs do.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys


def _no_reports(module):
    if os.environ.get("OCHE_TEST_REPORTS") == "none":
        module.write_report = lambda path: path / "report.html"


def _no_compiler(module):
    """`torch.optim` marks its methods as none for the compiler, and the first call of one imports it."""
    module._disable_dynamo = lambda fn=None, recursive=True: fn if fn is not None else lambda given: given


def _no_compiler_in_steps(module):
    """The same for steps, which tell the compiler to stop before them. Nothing else of a step changes."""

    def plain(step):
        @functools.wraps(step)
        def stepped(self, *args, **more):
            with module.torch.set_grad_enabled(self.defaults["differentiable"]):
                return step(self, *args, **more)

        return stepped

    module._use_grad_for_differentiable = plain


CHANGES = {
    "oche.report.run_page": _no_reports,
    "torch._compile": _no_compiler,
    "torch.optim.optimizer": _no_compiler_in_steps,
}


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        CHANGES[module.__name__](module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = Loader(name, spec.origin)
        return spec


sys.meta_path.insert(0, Finder())
