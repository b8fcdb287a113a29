"""Networks in 8 bits."""

import numpy as np
import pytest
import torch

from exports import oracle, run_cli, session


@pytest.fixture(scope="session")
def quantised(trained):
    """(what was said, file) of --int8 with pixels in."""
    out = trained.path.parent / "int8.onnx"
    return run_cli("export", trained.path, "--input", "uint8-nhwc", "--int8", "--out", out), out


@pytest.mark.slow
def test_pixels_in_probabilities_out_in_8_bits(trained, digits, quantised):
    import onnx

    said, path = quantised
    images, labels = digits
    (kind,) = session(path).get_inputs()
    assert (kind.type, kind.shape[1:]) == ("tensor(uint8)", [8, 8, 1])
    (p,) = session(path).run(["probabilities"], {"images": images.permute(0, 2, 3, 1).contiguous().numpy()})
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    expected = oracle(trained, images)
    assert 0 < (torch.from_numpy(p).double() - expected).abs().mean() < 0.05  # quantised, and of the same network
    before, after = ((q.argmax(1) == labels).double().mean().item() for q in (expected, torch.from_numpy(p)))
    assert f"in floats: accuracy {100 * before:.2f} %" in said and f"in 8 bits: accuracy {100 * after:.2f} %" in said
    assert f"{path}: {path.stat().st_size / 1000:,.1f} kB; images uint8 (batch, 8, 8, 1) to probabilities" in said
    assert said.count("ms for 1 image, ") == 2 and "checked on 256 images: largest difference" in said
    model = onnx.load(path)
    stored = {i.name: i.data_type for i in model.graph.initializer}
    quantised_by = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert convolutions and all(
        stored[quantised_by[n.input[1]].input[0]] == onnx.TensorProto.INT8 for n in convolutions
    )
