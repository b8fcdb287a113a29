"""Checkpoints: exact round trips, and damage that always shows."""

import pickle
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from oche.core.errors import OcheError
from oche.runs import checkpoint
from oche.runs.checkpoint import from_bytes, load_latest, load_weights, save, save_weights, to_bytes, weights_metadata

# --- states -----------------------------------------------------------------------------------------------------------


def same(a, b) -> bool:
    """Equal in type, values, dtypes and strides."""
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        return alike and to_list(a) == to_list(b)
    if isinstance(a, dict):
        return type(b) is dict and [*a] == [*b] and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)  # NaN and -0.0 too


def to_list(t):
    return t.contiguous().reshape(-1).view(torch.uint8).tolist() if t.numel() else []


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    t = torch.randint(0, 2, shape).to(draw(st.sampled_from(DTYPES)))
    order = draw(st.permutations(range(len(shape))))
    return t.permute(order)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | tensors()
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("a/'0_é", max_size=3) | st.integers(-2, 2), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(states)
def test_round_trip(state):
    assert same(dense(state), from_bytes(to_bytes(state)))


def dense(state):
    """``state`` with tensors that own their memory, as copies of them lie."""
    if isinstance(state, torch.Tensor):
        return state.clone(memory_format=torch.preserve_format)
    if isinstance(state, dict):
        return {k: dense(v) for k, v in state.items()}
    return type(state)(map(dense, state)) if isinstance(state, list | tuple) else state


def test_keys_that_would_collide():
    one, two, three = (torch.full((2,), float(i)) for i in range(3))
    state = {"0": one, 0: two, "a/b": one, "a": {"b": two, "b'": three}, "a/b'": one}
    assert same(state, from_bytes(to_bytes(state)))


def test_strides():
    x = torch.randn(4, 3, 5, 5)
    state = {
        "channels_last": x.to(memory_format=torch.channels_last),
        "depthwise": torch.randn(4, 1, 3, 3).to(memory_format=torch.channels_last),
        "view": x[:, 1:2, ::2],
        "transposed": x[0, 0].t(),
        "expanded": torch.ones(1, 3).expand(4, 3),
    }
    back = from_bytes(to_bytes(state))
    for name in ("channels_last", "depthwise", "transposed"):
        assert back[name].stride() == state[name].stride()
    for name, t in state.items():
        assert torch.equal(t, back[name])
        assert back[name].data_ptr() != t.data_ptr()


def test_optimisers_go_on_bit_for_bit():
    def step(net, optimizers):
        torch.manual_seed(1)
        for optimizer in optimizers:
            optimizer.zero_grad()
            net(torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=6))
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore
        return net, [torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), torch.optim.Adam(net.parameters(), 0.01)]

    net, optimizers = make()
    step(net, optimizers)
    saved = to_bytes({"net": net.state_dict(), "opt": [o.state_dict() for o in optimizers]})
    step(net, optimizers)

    other, others = make()
    state = from_bytes(saved)
    other.load_state_dict(state["net"])
    for o, s in zip(others, state["opt"], strict=True):
        o.load_state_dict(s)
    step(other, others)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert same([o.state_dict() for o in optimizers], [o.state_dict() for o in others])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": [{1, 2}]}, "state/a/0: a checkpoint cannot hold a set"),
        ({"a": {1.5: 0}}, "state/a: .* found 1.5"),
        ({True: 0}, "state: .* found True"),
        ([lambda: 0], "state/0: .* function"),
        (torch.nn.Linear(1, 1), "state: .* Linear"),
    ],
)
def test_what_it_does_not_take(state, words):
    with pytest.raises(TypeError, match=words):
        to_bytes(state)


# --- files ------------------------------------------------------------------------------------------------------------


def state_of(step):
    return {"weights": torch.arange(20.0) + step, "step": step}


def silent(text):
    raise AssertionError(f"nothing to say was expected, found: {text}")


def test_newest_is_loaded_and_two_are_kept(tmp_path):
    directory = tmp_path / "checkpoints"
    assert load_latest(directory, say=silent) is None
    for step in (1, 2, 9, 10, 100):
        path = save(directory, step, state_of(step))
        assert load_latest(directory, say=silent)[0] == step and path.exists()
    assert sorted(int(p.name.split("-")[1]) for p in directory.iterdir()) == [10, 100]
    step, state = load_latest(directory, say=silent)
    assert step == 100 and same(state, state_of(100))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_keep(tmp_path, keep):
    for step in range(5):
        save(tmp_path, step, state_of(step), keep=keep)
    assert sorted(int(p.name.split("-")[1]) for p in tmp_path.iterdir()) == list(range(5 - keep, 5))
    with pytest.raises(ValueError, match="keep=0"):
        save(tmp_path, 9, {}, keep=0)


def damaged(path, change):
    path.write_bytes(change(path.read_bytes()))


def test_damaged_newest_falls_back_and_says_so(tmp_path):
    save(tmp_path, 1, state_of(1))
    newest = save(tmp_path, 2, state_of(2))
    damaged(newest, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    said = []
    step, state = load_latest(tmp_path, say=said.append)
    assert step == 1 and same(state, state_of(1))
    assert len(said) == 1 and newest.name in said[0] and "damaged" in said[0]
    # Going on from there: the damaged one makes room for a sound one of its own step, and for no other.
    save(tmp_path, 2, {**state_of(2), "elapsed": 1.5})
    assert not newest.exists()
    assert sorted(int(p.name.split("-")[1]) for p in tmp_path.iterdir()) == [1, 2]
    assert load_latest(tmp_path, say=silent)[0] == 2


def test_damaged_ones_of_later_steps_go_too(tmp_path):
    save(tmp_path, 1, state_of(1))
    damaged(save(tmp_path, 5, state_of(5)), lambda data: data[:-1])
    save(tmp_path, 2, state_of(2))
    assert load_latest(tmp_path, say=silent)[0] == 2


def test_all_damaged(tmp_path):
    for step in (1, 2):
        damaged(save(tmp_path, step, state_of(step)), lambda data: b"")
    said = []
    assert load_latest(tmp_path, say=said.append) is None
    assert len(said) == 2


def test_any_cut_and_any_flipped_bit_shows(tmp_path):
    path = save(tmp_path, 3, state_of(3))
    whole = path.read_bytes()
    rng = random.Random(0)
    cuts = [lambda d, n=n: d[:n] for n in {0, 1, 7, 8, 9, len(whole) - 1, *rng.sample(range(len(whole)), 60)}]
    bits = [lambda d, n=n: flip(d, n) for n in rng.sample(range(8 * len(whole)), 200)]
    more = [lambda d: d + b"\0", lambda d: d[:100] + d[101:] + b"\0", lambda d: d[50:] + d[:50]]
    for change in cuts + bits + more:
        path.write_bytes(change(whole))
        said = []
        assert load_latest(tmp_path, say=said.append) is None and len(said) == 1
    path.write_bytes(whole)
    assert load_latest(tmp_path, say=silent)[0] == 3


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("write", ["torch", "pickle"])
@pytest.mark.parametrize("hash_fits", [False, True])
def test_a_pickle_is_never_loaded(tmp_path, write, hash_fits):
    save(tmp_path, 1, state_of(1))
    file = tmp_path / "pickle"
    torch.save({"x": Bomb()}, file) if write == "torch" else file.write_bytes(pickle.dumps(Bomb()))
    name = checkpoint.hashlib.sha256(file.read_bytes()).hexdigest()[:16] if hash_fits else "0123456789abcdef"
    file.rename(tmp_path / f"step-00000002-{name}.safetensors")
    said = []
    assert load_latest(tmp_path, say=said.append)[0] == 1
    assert len(said) == 1 and ("was not written by oche" if hash_fits else "is damaged") in said[0]


def test_a_foreign_safetensors_under_a_matching_name(tmp_path):
    file = tmp_path / "f"
    save_file({"x": torch.ones(2)}, file)
    digest = checkpoint.hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    file.rename(tmp_path / f"step-00000002-{digest}.safetensors")
    said = []
    assert load_latest(tmp_path, say=said.append) is None and "was not written by oche" in said[0]


def test_other_files_do_not_matter(tmp_path):
    save(tmp_path, 1, state_of(1))
    for name in (
        "step-2.safetensors",
        "step-00000002-XYZ.safetensors",
        "notes.txt",
        "step-00000003-0123456789abcdef.pt",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmp-step-00000002-0123456789abcdef.safetensors-00aa00aa").write_text("x")
    assert load_latest(tmp_path, say=silent)[0] == 1
    save(tmp_path, 2, state_of(2))
    assert not list(tmp_path.glob(".tmp-*")) and (tmp_path / "notes.txt").exists()


def test_no_room_leaves_the_others(tmp_path, monkeypatch):
    save(tmp_path, 1, state_of(1))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.atomic.os, "fsync", full)
    with pytest.raises(OcheError, match="No space left on device"):
        save(tmp_path, 2, state_of(2))
    assert load_latest(tmp_path, say=silent)[0] == 1 and len(list(tmp_path.iterdir())) == 1


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights(tmp_path):
    file = tmp_path / "w" / "weights.safetensors"
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)  # pyright: ignore
    weights = {**net.state_dict(), "half": torch.randn(3).bfloat16(), "none": torch.zeros(0, 2)}
    save_weights(file, weights, {"genotype": "Genotype(…)"})
    back = load_weights(file)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[k], weights[k]) and back[k].dtype == weights[k].dtype for k in weights)
    assert weights_metadata(file) == {"genotype": "Genotype(…)"}
    net.load_state_dict({k: v for k, v in back.items() if k in net.state_dict()})


def test_weights_are_the_same_bytes_each_time(tmp_path):
    weights = {"b": torch.ones(3), "a": torch.zeros(2, 2), "c": torch.arange(4)}
    files = [tmp_path / str(i) for i in range(8)]
    for file in files:
        save_weights(file, dict(weights), {"y": "é", "x": "2", "z": "3"})
    assert len({file.read_bytes() for file in files}) == 1
    assert weights_metadata(files[0]) == {"y": "é", "x": "2", "z": "3"}


def test_damaged_weights_show(tmp_path):
    file = tmp_path / "w.safetensors"
    save_weights(file, {"a": torch.randn(50), "b": torch.arange(9)})
    whole = file.read_bytes()
    data = 8 + int.from_bytes(whole[:8], "little")  # before it lies the header
    rng = random.Random(0)
    for bit in rng.sample(range(8 * data, 8 * len(whole)), 100):
        file.write_bytes(flip(whole, bit))
        with pytest.raises(OcheError, match="is damaged: its weights do not match"):
            load_weights(file)
    for cut in (0, 5, 20, data, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(OcheError, match="is not an intact safetensors file") as caught:
            load_weights(file)
        assert "\n" not in str(caught.value)


def test_weights_of_other_programs(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(2)}, file)
    assert torch.equal(load_weights(file)["a"], torch.ones(2)) and weights_metadata(file) == {}
    with pytest.raises(OcheError, match="no weights at"):
        load_weights(tmp_path / "absent")
    torch.save({"x": Bomb()}, tmp_path / "pickle")
    with pytest.raises(OcheError, match="is not an intact safetensors file"):
        load_weights(tmp_path / "pickle")
