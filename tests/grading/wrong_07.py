"""Wrong answers to lesson 07 that are no item's variant: written as students write them."""

import numpy as np


def ratio_of_two(labels, num_classes):
    """Weights by the sizes of the first two classes only."""
    return np.array([1.0, (labels == 0).sum() / (labels == 1).sum()])


def shuffled_in_place(labels, train, seed):
    """Right rows, but the caller's fold is shuffled."""
    np.random.default_rng(seed).shuffle(train)
    groups = [train[labels[train] == c] for c in np.unique(labels[train])]
    size = max(len(rows) for rows in groups)
    return np.concatenate([np.resize(rows, size) for rows in groups])


def with_everyone(labels, train, seed):
    """The balanced fold, and all of the data after it."""
    return np.concatenate([train, np.arange(len(labels))])


def only_the_threshold(validation_labels, validation_p, test_labels, test_p):
    return 0.5


def judged_all(features, labels, order):
    """Judges the training rows as well."""
    return order, np.full(len(order), 0.5)


WRONG = [
    ("07.class_weights", "returned_none", lambda labels, num_classes: None),
    ("07.class_weights", "lost_dimension", lambda labels, num_classes: 1.0),
    ("07.focal_gradient", "lost_dimension", lambda logits, labels, gamma: 0.1),
    ("07.focal_gradient", "wrong_value", lambda logits, labels, gamma: np.tanh(logits)),
    ("07.oversample_fold", "changed_input", shuffled_in_place),
    ("07.oversample_fold", "leak", with_everyone),
    ("07.choose_threshold", "wrong_type", only_the_threshold),
    ("07.correct_prior", "wrong_value", lambda p, share_trained, share_real: p),
    ("07.report", "wrong_shape", judged_all),
]
