"""Compiles every kernel of the GPU path for sm_90, as it is launched for the DARTS space in bf16; no GPU is needed.

Prints a line a kernel: registers and bytes spilled of a thread, where ptxas says so. Run with TRITON_INTERPRET=0; the word
"quick" leaves out those of several kernel sizes, which take most of the time.
"""

import re
import subprocess
import sys
import tempfile

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels

KINDS = ((3, 1), (5, 1), (3, 2), (5, 2))
POINTERS = {"x": "*bf16", "y": "*bf16", "z": "*bf16", "dy": "*bf16", "dx": "*bf16", "g": "*bf16", "out": "*bf16"}
TUPLES = {"inputs": ("*bf16",) * 7, "each": ("i32",) * 7}
FLOATS = ("scale", "shift", "w", "dw", "a", "d", "mean")
ROWS, WIDE = sum_kernels.tile(16)
C = 16


def depthwise(norm, stride, kinds=KINDS):
    t = sum(r * r for r, _ in kinds)
    return dict(
        TAPS=depthwise_kernels.taps(kinds), K=len(kinds), T=t, STRIDE=stride, NORM=norm, ACC=tl.float32,
        ROWS=sum_kernels.tile(C, 4)[0], WIDE=WIDE, H=32, W=32, HO=32 // stride, WO=32 // stride, C=C,
    )  # fmt: skip


ROWED = dict(ACC=tl.float32, ROWS=ROWS, WIDE=WIDE)
SINGLE = ((5, 1),)
CASES = [
    ("_forward", depthwise(False, 1)),
    ("_forward", depthwise(False, 2)),
    ("_forward", depthwise(True, 1, SINGLE)),
    ("_backward_input", depthwise(False, 1)),
    ("_backward_input", depthwise(False, 2)),
    ("_backward_input", depthwise(True, 1, SINGLE)),
    ("_backward_weight", {**depthwise(False, 1), "CHUNK": depthwise_kernels.CHUNK}),
    ("_backward_weight", {**depthwise(True, 1, SINGLE), "CHUNK": depthwise_kernels.CHUNK}),
    ("_moments", ROWED),
    ("_combine", dict(S=7, **ROWED)),
    ("_dots", dict(S=7, **ROWED)),
]


def signature(kernel, fixed):
    kinds = {}
    for name in kernel.arg_names:
        partial = name == "out" and kernel.fn.__name__ in ("_moments", "_dots")  # partial sums are wide
        kinds[name] = (
            "constexpr" if name in fixed
            else "*fp32" if name in FLOATS or partial
            else TUPLES["each"] if name == "each" and "inputs" in kernel.arg_names
            else TUPLES.get(name, POINTERS.get(name, "i32")) if name != "each"
            else "i32"
        )  # fmt: skip
    return kinds


def resources(ptx):
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return " ".join(re.findall(r"\d+ bytes spill stores|Used \d+ registers", said))


for name, fixed in CASES:
    if fixed.get("K", 1) > 1 and sys.argv[1:] == ["quick"]:
        continue
    kernel = getattr(depthwise_kernels, name, None) or getattr(sum_kernels, name)
    places = {(kernel.arg_names.index(k),): v for k, v in fixed.items()}
    source = ASTSource(kernel, signature(kernel, fixed), constexprs=places)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(name, fixed.get("STRIDE", ""), fixed.get("NORM", ""), resources(compiled.asm["ptx"]))
