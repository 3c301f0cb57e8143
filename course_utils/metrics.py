"""Numbers that judge a model, and its probabilities: typed results over scikit-learn and SciPy.

Every average over classes says which average it is. How sure a number is, `intervals` says.

Left out on purpose: our own formulas. Lesson 06 computes each metric by hand once.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn import metrics as sk

from course_utils.inputs import (
    as_array,
    class_numbers,
    numbers,
    whole_number,
)


@dataclass(frozen=True)
class ClassScores:
    """How well classes were predicted.

    Attributes
    ----------
    accuracy : float
    f1_macro : float
        F1 averaged over classes, each class counting the same.
    f1_weighted : float
        F1 averaged over classes, each counting by its number of rows.
    f1 : ndarray of shape (C,)
        F1 of each class alone.
    confusion : ndarray of shape (C, C)
        Row: true class. Column: predicted class.
    """

    accuracy: float
    f1_macro: float
    f1_weighted: float
    f1: np.ndarray
    confusion: np.ndarray


@dataclass(frozen=True)
class RatingScores:
    """How well ratings were predicted: Pearson's r, Spearman's rho, mean absolute error."""

    pearson: float
    spearman: float
    mean_absolute_error: float


@dataclass(frozen=True)
class ReliabilityBins:
    """What was said and what was true, in K bins of probability.

    Attributes
    ----------
    said : ndarray of shape (K,)
        Mean probability of the bin's rows; NaN where there is none.
    was : ndarray of shape (K,)
        Share of ones among them; NaN where there is none.
    counts : ndarray of shape (K,)
        Rows in each bin.
    """

    said: np.ndarray
    was: np.ndarray
    counts: np.ndarray


def class_scores(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> ClassScores:
    """Score predicted classes against true ones.

    Parameters
    ----------
    labels, predictions : int arrays of shape (N,)
        Classes from 0 to C - 1.
    num_classes : int
        C; a class that never occurs still has its row in the confusion matrix.

    Raises
    ------
    ValueError
        If the shapes differ, a class is out of range, or there is no row.

    Examples
    --------
    >>> scores = class_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    >>> scores.accuracy, scores.confusion.tolist()
    (0.75, [[1, 1], [0, 2]])
    """
    labels, predictions = paired_vectors(labels=labels, predictions=predictions)
    labels = class_numbers(labels, num_classes)
    predictions = class_numbers(predictions, num_classes, "predictions")
    classes = list(range(num_classes))
    f1 = sk.f1_score(labels, predictions, labels=classes, average=None, zero_division=0.0)
    support = np.bincount(labels, minlength=num_classes)
    return ClassScores(
        accuracy=float(sk.accuracy_score(labels, predictions)),
        f1_macro=float(f1.mean()),
        f1_weighted=float(np.average(f1, weights=support)),
        f1=f1,
        confusion=sk.confusion_matrix(labels, predictions, labels=classes),
    )


def rating_scores(ratings: np.ndarray, predictions: np.ndarray) -> RatingScores:
    """Score predicted ratings against the mean of the human ratings.

    Parameters
    ----------
    ratings, predictions : arrays of shape (N,), N at least 2

    Returns
    -------
    RatingScores
        The two correlations are NaN, with a warning of SciPy's, where ratings or predictions
        are all the same: they have no value then.

    Raises
    ------
    ValueError
        If the shapes differ, as those of ratings (N,) and logits (N, 1) do, or a value is
        missing or infinite.

    Examples
    --------
    >>> rating_scores(np.array([-1.0, 0.0, 2.0]), np.array([-0.5, 0.5, 2.5])).mean_absolute_error
    0.5
    """
    ratings, predictions = paired_vectors(ratings=ratings, predictions=predictions, least=2)
    ratings, predictions = ratings.astype(float), predictions.astype(float)
    return RatingScores(
        pearson=float(stats.pearsonr(ratings, predictions).statistic),
        spearman=float(stats.spearmanr(ratings, predictions).statistic),
        mean_absolute_error=float(np.abs(ratings - predictions).mean()),
    )


# --- calibration --------------------------------------------------------------------------


def reliability_bins(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> ReliabilityBins:
    """Sort rows into equally wide bins of probability and compare it with what happened.

    Parameters
    ----------
    probabilities : array of shape (N,)
        Of label 1.
    labels : array of shape (N,)
        0 or 1.
    bins : int
        K. The edges are those of `sklearn.calibration.calibration_curve`: a probability on an
        edge belongs to the bin below it.

    Raises
    ------
    ValueError
        If shapes differ, a probability is not from 0 to 1, or a label is not 0 or 1.

    Examples
    --------
    >>> found = reliability_bins(np.array([0.1, 0.3, 0.8, 0.6]), np.array([0, 1, 1, 1]), bins=2)
    >>> found.said.round(2).tolist(), found.was.tolist(), found.counts.tolist()
    ([0.2, 0.7], [0.5, 1.0], [2, 2])
    """
    probabilities, labels = paired_vectors(probabilities=probabilities, labels=labels)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # also refuses NaN
        raise ValueError("probabilities must be numbers from 0 to 1")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    bins = whole_number(bins, "bins", least=1)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], probabilities)
    counts = np.bincount(place, minlength=bins)
    rows = np.where(counts > 0, counts, np.nan)  # an empty bin says nothing
    return ReliabilityBins(
        said=np.bincount(place, probabilities, minlength=bins) / rows,
        was=np.bincount(place, labels, minlength=bins) / rows,
        counts=counts,
    )


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> float:
    r"""Return the mean gap between what was said and what was true, weighted by rows.

    $\sum_k \frac{n_k}{N} |\text{said}_k - \text{was}_k|$ over the bins of `reliability_bins`
    (C. Guo et al., "On Calibration of Modern Neural Networks", 2017). It depends on the number
    of bins, and grows by chance when they hold few rows: compare it at equal N and K only.

    Parameters
    ----------
    probabilities, labels, bins
        See `reliability_bins`. For more than two classes, give the probability of the predicted
        class and whether it was right.

    Examples
    --------
    >>> said, was = np.array([0.1, 0.3, 0.8, 0.6]), np.array([0, 1, 1, 1])
    >>> round(expected_calibration_error(said, was, bins=2), 6)  # (2 x 0.3 + 2 x 0.3) / 4
    0.3
    """
    found = reliability_bins(probabilities, labels, bins)
    return float(np.nansum(found.counts * np.abs(found.said - found.was)) / found.counts.sum())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T for which softmax(logits / T) has the lowest cross-entropy on these rows.

    Above 1 it makes a model less sure of itself, below 1 surer. It changes no predicted class.
    Fit it on validation rows (Guo et al. 2017).

    Parameters
    ----------
    logits : array of shape (N, C)
    labels : int array of shape (N,)

    Returns
    -------
    float
        From 0.01 to 100. An end of that range means that no temperature fits: every row is
        right, or the logits know nothing.

    Raises
    ------
    ValueError
        If the shapes do not match, a logit is not finite, or a label is not a column of the
        logits.

    Examples
    --------
    >>> logits = np.array([[0.0, 2.0]] * 4)  # sure with odds e^2; right 3 times in 4, odds 3
    >>> temperature = fit_temperature(logits, np.array([1, 1, 1, 0]))
    >>> round(float(np.exp(2 / temperature)), 3)
    3.0
    """
    logits, labels = paired_rows(logits=numbers(logits, "logits"), labels=labels)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"need logits (N, C) of two classes or more, got {logits.shape}")
    rows, labels = np.arange(len(labels)), class_numbers(labels, logits.shape[1])

    def cross_entropy(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[rows, labels].mean())

    limit = np.log(100)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-limit, limit)).x))


def paired_rows(*arrays: np.ndarray, least: int = 1, **named: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the inputs as arrays, after checking that they have the same rows, and enough.

    An error says the name under which an array was given, or else its place.

    Raises
    ------
    ValueError
        If the numbers of rows differ or are below `least`, or a value is missing or infinite.

    Examples
    --------
    >>> [array.shape for array in paired_rows([1, 2], [[1, 0], [0, 1]])]
    [(2,), (2, 2)]
    """
    given = {f"array {place}": array for place, array in enumerate(arrays, 1)} | named
    found = tuple(as_array(array, name) for name, array in given.items())
    if len({len(array) for array in found}) != 1 or len(found[0]) < least:
        raise ValueError(
            f"need the same number of rows, at least {least}; got {[len(a) for a in found]}"
        )
    for name, array in zip(given, found, strict=True):
        if array.dtype.kind == "f":
            numbers(array, name)
    return found


def paired_vectors(
    *arrays: np.ndarray, least: int = 1, **named: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return the inputs as arrays of numbers, after checking that each has shape (N,), with one N.

    As in `paired_rows`, an error says the name or the place of an array.

    Examples
    --------
    >>> [array.shape for array in paired_vectors([1, 2], [3, 4])]
    [(2,), (2,)]
    """
    found = paired_rows(*arrays, least=least, **named)
    if any(array.ndim != 1 for array in found):
        raise ValueError(f"need arrays of shape (N,), got {[array.shape for array in found]}")
    names = [*(f"array {place}" for place, _ in enumerate(arrays, 1)), *named]
    return tuple(numbers(array, name) for name, array in zip(names, found, strict=True))
