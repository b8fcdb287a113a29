"""The supernet of recurrent cells in its fast form, against its plain modules."""

from dataclasses import replace

import pytest
import torch

from oche import methods
from oche.bilevel.batches import check_data
from oche.bilevel.search import search
from oche.core.errors import OcheError
from oche.core.seeds import derive_seed
from oche.devices.engine import Engine
from tiny_images import Kept
from tiny_text import WORDS, corpus, method, space


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts-2nd", "gdas", "exact", "robust-darts", "sgas-1"])
def test_searches_are_the_same_in_both_forms(name):
    made = replace(space().adapt_search(methods.METHODS[name].make()), batch=4, steps=5, warmup=0.0)
    made = replace(
        made,
        batch_growth=min(1, made.method.batch_growth),
        weight_optimizer=replace(made.method.weight_optimizer, lr=0.5, lr_min=0.5),
    )
    found = []
    for engine in ("plain", "fused"):
        session = Kept()
        task, _ = search(
            space(), made, corpus(), seed=0, engine=Engine("cpu", dtype=torch.float64, fused=engine), session=session
        )
        found.append((task, session.history))
    (plain, history), (fused, quick) = found
    assert plain.computes != fused.computes
    for one, other in zip(plain.weights + plain.logits, fused.weights + fused.logits, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9)
    assert quick[-1]["val_loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-9)
    if name == "robust-darts":
        assert quick[-1]["eigenvalue"] == pytest.approx(history[-1]["eigenvalue"], rel=1e-5)


def test_images_are_no_text_and_text_is_no_image():
    import tiny_images

    with pytest.raises(OcheError, match="for text, and stripes is images; use --data ptb"):
        check_data(tiny_images.dataset(), space(), method())
    with pytest.raises(OcheError, match=r"for images, and walk is text.*--space recurrent"):
        check_data(corpus(), tiny_images.space(), method())


def test_the_published_recipe():
    made = space().adapt_search(methods.darts())
    w, a = made.method.weight_optimizer, made.method.arch_optimizer
    assert (w.lr, w.lr_min, w.momentum, w.decay, w.clip) == (20, 20, 0, 5e-7, 0.25)
    assert (a.lr, a.decay, made.batch, made.epochs) == (3e-3, 1e-3, 256, 50)
    whole = space(width=300).fit(corpus())
    from oche.spaces import recurrent

    published = recurrent()
    assert (published.width, published.bptt, published.nodes, published.temporal) == (300, 35, 8, 1e-3)
    drop = published.dropouts
    assert (drop.output, drop.hidden, drop.input, drop.embedding, drop.words) == (0.75, 0.25, 0.75, 0.2, 0.0)
    assert whole.vocabulary == len(WORDS)
    assert derive_seed(0, "x") != derive_seed(1, "x")
