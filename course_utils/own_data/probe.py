"""Where the head begins: as a linear model of the vectors that the encoder brings along.

A head of random weights is wrong about everything at first, and its gradients pull the encoder
about before they mean something. Kumar et al. ("Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", 2022) fit the head alone first, a *linear probe*, and fine-tune
all from there. It costs one reading of the training rows, a third of an epoch; with little time
or few rows it is most of what there is to gain.

Left out on purpose: a search for the probe's strength. It only has to be a good beginning.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from course_utils.batching import TokenizedDataset, eval_loader
from course_utils.models import SentenceClassifier
from course_utils.own_data.goals import Goal
from course_utils.training import evaluate

STRENGTH = 0.3  # scikit-learn's C: of 150 to 1,000 film reviews 0.1 did best, of news posts 1


def vectors_of(model: SentenceClassifier, data: TokenizedDataset) -> np.ndarray:
    """Return what the head is given of each text, shape (N, D)."""
    head, model.classifier = model.classifier, nn.Identity()  # type: ignore[assignment]
    try:
        found = evaluate(model, eval_loader(data), lambda outputs, labels: outputs.sum())
    finally:
        model.classifier = head
    return found.logits.float().numpy()


def linear_probe(
    goal: Goal, vectors: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, D) and biases (C,) of a linear model with a weak penalty.

    A class without a row is said to be the least likely one, and a tag that all rows have or none
    has gets its share of the rows as its probability, one half of a row added to both sides.

    Parameters
    ----------
    goal : Goal
    vectors : array of shape (N, D)
    targets : array of shape (N,), or (N, C) for tags
        Class numbers, 0 and 1, or ratings.

    Examples
    --------
    >>> goal = Goal("classes", ("bad", "good"), "")
    >>> vectors = np.array([[-1.0, 0.0], [-2.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> weights, biases = linear_probe(goal, vectors, np.array([0, 0, 1, 1]))
    >>> (vectors @ weights.T + biases).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    if goal.kind == "rating":
        ridge = Ridge(alpha=1.0).fit(vectors, targets)
        return ridge.coef_.reshape(1, -1), np.reshape(ridge.intercept_, 1)
    if goal.kind == "tags":
        columns = [_of_one_tag(vectors, column) for column in np.asarray(targets).T]
        return np.stack([w for w, _ in columns]), np.array([b for _, b in columns])
    weights = np.zeros((len(goal.names), vectors.shape[1]))
    model = _fit(vectors, targets)
    if len(model.classes_) == 2:  # one row of numbers for two classes: half of it for each
        coef, intercept = np.concatenate([-model.coef_, model.coef_]) / 2, model.intercept_ / 2
        intercept = np.concatenate([-intercept, intercept])
    else:
        coef, intercept = model.coef_, model.intercept_
    weights[model.classes_] = coef
    biases = np.full(len(goal.names), intercept.min() - 1.0)
    biases[model.classes_] = intercept
    return weights, biases


@torch.no_grad()
def begin_at_probe(
    model: SentenceClassifier, goal: Goal, data: TokenizedDataset, targets: np.ndarray
) -> None:
    """Give the head the weights of a linear probe of these rows; the encoder is left as it is."""
    weights, biases = linear_probe(goal, vectors_of(model, data), targets)
    model.classifier.weight.copy_(torch.from_numpy(weights))
    model.classifier.bias.copy_(torch.from_numpy(biases))


def _of_one_tag(vectors: np.ndarray, has: np.ndarray) -> tuple[np.ndarray, float]:
    if has.min() == has.max():
        yes = has.sum() + 0.5
        return np.zeros(vectors.shape[1]), float(np.log(yes / (len(has) + 1 - yes)))
    model = _fit(vectors, has)
    return model.coef_[0], float(model.intercept_[0])


def _fit(vectors: np.ndarray, targets: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():  # not converged is still a beginning
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=STRENGTH, max_iter=300).fit(vectors, targets)
