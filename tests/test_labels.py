"""Labels that head and loss do not agree on are said before training, and only those."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.imbalance import cascade_loss, class_weights, focal_loss
from course_utils.labels import check_labels, count_outputs
from course_utils.training import rating_loss
from tests import tiny

CLASSES = np.array([0, 1, 1, 0, 1])
RATINGS = np.array([-4.0, 0.1, 0.1, 3.9, 2.0], dtype=np.float32)


def binary_loss(logits, ratings):  # lesson 05
    return F.cross_entropy(logits, (ratings > 0).long())


def two_head_loss(outputs, ratings):  # lessons 05 and 06
    classes = torch.bucketize(ratings, torch.tensor([-0.5, 0.5]))
    return rating_loss(outputs[:, :1], ratings) + F.cross_entropy(outputs[:, 1:], classes)


def of_pairs(logits, labels):  # a loss that takes batches of one size only
    return (logits.view(8, 2, -1).sum() - labels.view(8, 2).sum()).abs()


def failing(logits, labels):
    raise RuntimeError("a fault of its own")


@pytest.mark.parametrize(
    ("labels", "num_outputs", "loss_fn"),
    [
        (CLASSES, 2, F.cross_entropy),
        (CLASSES, 3, F.cross_entropy),  # a class without rows
        (CLASSES[:1], 2, F.cross_entropy),
        (np.array([1, -100, 0]), 2, F.cross_entropy),  # rows to be left out
        (CLASSES, 2, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))),
        (CLASSES, 2, partial(F.cross_entropy, weight=class_weights(CLASSES, 2))),
        (CLASSES, 2, lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=0.1)),
        (CLASSES, 2, focal_loss),
        (CLASSES, 2, partial(focal_loss, gamma=1.0)),
        (RATINGS, 1, rating_loss),
        (RATINGS[:1], 1, rating_loss),
        (RATINGS.astype(float), 1, rating_loss),
        (RATINGS, 2, binary_loss),
        (np.zeros(5, dtype=np.int64), 2, binary_loss),  # no labels given
        (RATINGS, 4, two_head_loss),
        (RATINGS, 2, partial(cascade_loss, cuts=(0.0, -2.5))),
        (CLASSES, 1, lambda x, y: F.binary_cross_entropy_with_logits(x[:, 0], y.float())),
        (np.zeros(3, dtype=int), 1, F.cross_entropy),
        (CLASSES, 2, of_pairs),
        (CLASSES, 2, failing),
        (np.arange(2000) % 1500, 1500, F.cross_entropy),
        (np.linspace(-4, 4, 5000), 1, rating_loss),
    ],
)
def test_what_trains_passes(labels, num_outputs, loss_fn):
    check_labels(labels, num_outputs, loss_fn)


@pytest.mark.parametrize(
    ("loss_fn", "num_outputs"),
    [
        (F.cross_entropy, 2),
        (focal_loss, 2),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])), 2),
        (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), 2),
        (lambda x, y: F.mse_loss(x.softmax(1), F.one_hot(y, 2).float()), 2),
    ],
)
@pytest.mark.parametrize(
    ("labels", "row", "found"),
    [
        ([0, 1, 2, 1, 7], 2, "0, 1, 2, 7"),
        ([1, 1, -1, 0], 2, "-1, 0, 1"),
        ([1, 2, 1, 2], 1, "1, 2"),  # counted from 1
        ([2, 2, 2], 0, "2"),
        (list(range(30)), 2, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."),
    ],
)
def test_a_label_that_is_no_class_of_the_head_is_named(loss_fn, num_outputs, labels, row, found):
    with pytest.raises(
        ValueError, match=rf"row {row} of labels is {labels[row]}, no class"
    ) as error:
        check_labels(np.array(labels), num_outputs, loss_fn)
    assert f"0 to 1. In labels are {found}: count" in str(error.value)


@pytest.mark.parametrize("loss_fn", [F.cross_entropy, focal_loss])
@pytest.mark.parametrize("labels", [RATINGS, np.array([0.0, 1.0]), np.zeros(1)])
def test_ratings_in_a_loss_for_classes(loss_fn, labels):
    with pytest.raises(ValueError, match=r"floats .* loss is one for classes"):
        check_labels(labels, 2, loss_fn)
    with pytest.raises(ValueError, match=r"floats .* loss is one for classes"):
        check_labels(labels, 1, loss_fn)


@pytest.mark.parametrize(
    "loss_fn",
    [
        rating_loss,
        lambda x, y: F.huber_loss(x[:, 0], y),
        lambda x, y: F.binary_cross_entropy_with_logits(x[:, 0], y),
    ],
)
@pytest.mark.parametrize("labels", [CLASSES, np.array([1, 5, 3]), np.zeros(2, dtype=int)])
def test_classes_in_a_loss_for_ratings(loss_fn, labels):
    with pytest.raises(ValueError, match=r"whole numbers .* for ratings: give floats"):
        check_labels(labels, 1, loss_fn)


@pytest.mark.parametrize("num_outputs", [2, 3, 5])
def test_a_rating_loss_wants_one_output(num_outputs):
    """Five labels and five outputs would even have matched, and been wrong."""
    for labels in (RATINGS, RATINGS[:2], RATINGS[:1]):
        with pytest.raises(ValueError, match="use a head of 1 output and"):
            check_labels(labels, num_outputs, rating_loss)


@pytest.mark.parametrize("loss_fn", [F.mse_loss, nn.MSELoss(), F.binary_cross_entropy_with_logits])
def test_every_logit_with_every_label_is_no_loss(loss_fn):
    with pytest.raises(ValueError, match=r"they are \(B, 1\) and \(B,\)"):
        check_labels(RATINGS, 1, loss_fn)


def test_as_many_labels_as_outputs_do_not_match_by_accident():
    """Four different ratings and four outputs: PyTorch subtracts them without a word."""
    with pytest.raises(ValueError, match="for a head of 1 output, this one has 4"):
        check_labels(RATINGS, 4, lambda logits, ratings: (logits - ratings).square().mean())


def test_class_weights_on_a_gpu_are_brought_to_the_cpu_to_be_asked():
    """There a wrong label is an exception, and not the end of the process."""

    class OnGPU(nn.CrossEntropyLoss):
        moved = False

        def cpu(self):
            self.moved = True
            return self

        def forward(self, logits, labels):
            assert self.moved, "Expected all tensors to be on the same device"
            return super().forward(logits, labels)

    class WeightOnGPU(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    def weighted(logits, labels, weight):
        assert type(weight) is torch.Tensor, "Expected all tensors to be on the same device"
        return F.cross_entropy(logits, labels, weight=weight)

    weight, loss = torch.ones(2).as_subclass(WeightOnGPU), OnGPU()
    for loss_fn in (loss, partial(weighted, weight=weight)):
        check_labels(CLASSES, 2, loss_fn)
        with pytest.raises(ValueError, match="row 1 of labels is 2"):
            check_labels(np.array([1, 2]), 2, loss_fn)
    assert not loss.moved, "the loss itself stays where it is"


def test_another_head_would_have_passed():
    def only_one(logits, labels):
        assert logits.shape[1] == 1
        return (logits[:, 0] - labels).square().mean()

    with pytest.raises(ValueError, match="for a head of 1 output, this one has 3"):
        check_labels(RATINGS, 3, only_one)


def test_asking_leaves_random_numbers_and_gradients_alone():
    weights = torch.ones(2, requires_grad=True)
    seen = []

    def noisy(logits, labels):
        seen.append(torch.is_grad_enabled())
        return F.cross_entropy(logits + torch.randn(2), labels, weight=weights)

    before = torch.get_rng_state()
    check_labels(CLASSES, 2, noisy)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights.grad is None
    assert seen == [False], "a loss that agrees is asked once"


@pytest.mark.parametrize("training", [True, False])
def test_the_head_is_counted_and_the_model_left_as_it_came(training):
    model, data = tiny.model(3).train(training), tiny.dataset(0, 4)
    before, random = tiny.weights(model), torch.get_rng_state()
    assert count_outputs(model, data) == 3
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
