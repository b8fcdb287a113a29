"""When averaging begins, and that it is averaged SGD: against a naive rule and `torch.optim.ASGD`."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.training.weight_averaging import NonMonotonicTrigger, WeightAverage


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 6))
def test_the_trigger_is_the_published_rule(losses, patience):
    trigger, before = NonMonotonicTrigger(patience), []
    for loss in losses:
        published = len(before) > patience and loss > min(before[:-patience])
        assert trigger(loss) == published
        before.append(loss)


def test_falling_losses_never_trigger_and_a_plateau_does_only_once_it_is_above():
    assert not any(map(NonMonotonicTrigger(5), [9.0 - k for k in range(9)]))
    assert not any(map(NonMonotonicTrigger(5), [3.0] * 20))
    # at the ninth loss 2 is the best of those before the last five
    assert [*map(NonMonotonicTrigger(5), [4, 3, 2, 2.5, 2.6, 2.7, 2.8, 2.9, 2.1])] == [False] * 8 + [True]


def test_against_asgd_of_torch():
    """With one learning rate: the same weights, and the same mean but for the first step, which torch leaves out."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=g, dtype=torch.float64)
    gradients = torch.randn(9, 7, generator=g, dtype=torch.float64)
    a, b = (start.clone().requires_grad_() for _ in range(2))
    sgd = torch.optim.SGD([a], lr=0.3, weight_decay=0.1)
    asgd = torch.optim.ASGD([b], lr=0.3, t0=0, lambd=0.0, weight_decay=0.1)
    average, path = WeightAverage([a]), []
    for gradient in gradients:
        a.grad, b.grad = gradient.clone(), gradient.clone()
        sgd.step()
        asgd.step()
        average.update([a], average.count_step())
        path.append(a.detach().clone())
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # torch keeps the rate in float32
        torch.testing.assert_close(average.means[0], torch.stack(path).mean(0))
    torch.testing.assert_close(asgd.state[b]["ax"], torch.stack(path[1:]).mean(0), rtol=1e-5, atol=1e-6)


def test_means_stand_in_for_weights_and_leave_again():
    weights = [torch.tensor([1.0, 3.0], requires_grad=True)]
    average = WeightAverage(weights)
    with average.swapped_in(weights):
        assert weights[0].tolist() == [1.0, 3.0]  # nothing averaged yet
    average.update(weights, average.count_step())
    with torch.no_grad():
        weights[0].add_(2.0)
    average.update(weights, average.count_step())
    try:
        with average.swapped_in(weights):
            assert weights[0].tolist() == [2.0, 4.0]
            raise KeyError
    except KeyError:
        pass
    assert weights[0].tolist() == [3.0, 5.0]


def test_going_on_from_means():
    weights = [torch.tensor([1.0])]
    one = WeightAverage(weights)
    one.update(weights, one.count_step())
    other = WeightAverage(weights, one.means, one.count)
    for average in (one, other):
        average.update([torch.tensor([4.0])], average.count_step())
    assert one.means[0].item() == other.means[0].item() == 2.5 and other.count == 2
