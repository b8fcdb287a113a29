"""A trained network to export, and what it computes."""

import contextlib
import io
import json

import torch

from oche.cli import main as cli
from oche.data import load as load_data
from oche.runs.checkpoint import load_weights

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('dil_conv_3x3', 1), ('skip_connect', 0)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 2), ('skip_connect', 0)], "
    "reduce_concat=[2, 3])"
)


def oracle(run, images, logits=False):
    """What the trained network makes of uint8 images, in float64 and written out: nothing of what is tested."""
    net = run.config.train.network(run.genotype, load_data("digits", limit=300))
    net.load_state_dict(load_weights(run.path / "weights.safetensors"))
    facts = json.loads((run.path / "space.json").read_text())
    mean, std = (torch.tensor(facts[k], dtype=torch.float64).view(1, -1, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        out = net.double().eval()((images.double() / 255 - mean) / std)
    return out if logits else out.softmax(1)


def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_cli(*words) -> str:
    """Types a command that must succeed; what it said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main([str(w) for w in words]) == 0
    return said.getvalue()
