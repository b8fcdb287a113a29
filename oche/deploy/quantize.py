"""Static quantisation of an exported ONNX model to 8 bits, with ranges measured on training images.

Weights get a scale per output channel, each activation one scale, from their smallest and largest values on those images.
Activations are unsigned and weights signed, for which x86 has instructions. On a network of 5 cells and 8 × 8 images this took
0.15 ms, with both signed 0.39 ms, in floats 0.13 ms (32 images: 1.3, 6.6, 1.8 ms; one thread of an AMD EPYC, onnxruntime 1.32).
Older processors add two such products in 16 bits, which can overflow; weights therefore use only 7 bits, so that the model
computes the same on every machine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

# Operations between two quantised convolutions are quantised too, which avoids conversions. The softmax is not: its
# probabilities would be multiples of 1/256.
_OPERATIONS = [
    "Conv",
    "Gemm",
    "Relu",
    "Add",
    "Concat",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Slice",
]


def quantise(source: Path, target: Path, inputs: Iterable[Tensor]) -> None:
    """Quantise the ONNX model at ``source`` and write it to ``target``; ``inputs``: batches of inputs that measure the ranges."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Tensor] = iter(inputs)

        def get_next(self):  # pyright: ignore[reportIncompatibleMethodOverride]
            batch = next(self.left, None)
            return None if batch is None else {"images": batch.numpy()}

    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # onnxruntime warns about a preparation that has been done
    try:
        prepared = source.with_suffix(".prepared.onnx")
        quant_pre_process(source, prepared)
        quantize_static(
            prepared, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=_OPERATIONS,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True,
        )  # fmt: skip
    finally:
        root.setLevel(before)
