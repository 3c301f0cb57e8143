"""From logits to probabilities, from probabilities to decisions, and what these are worth.

One temperature makes the probabilities honest, one threshold says where to cut them; both are
chosen on the validation set. Scores are those of `metrics` and scikit-learn, the first of each goal
being the one by which things are compared: macro F1 for classes, since it does not reward
forgetting the rare ones, micro F1 for tags, and R² for ratings (0 for whoever says the mean).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from scipy.stats import spearmanr
from sklearn.metrics import r2_score

from course_utils.intervals import Interval, bootstrap_interval
from course_utils.metrics import fit_temperature
from course_utils.own_data.goals import Goal
from course_utils.serving.rules import Use, rules_of
from course_utils.thresholds import ThresholdTable, threshold_table

COLDEST, HOTTEST = 1 / 3, 10.0  # a few validation rows, all right, would ask for T near 0
WORTH_MOVING = 0.01  # of F1: a threshold that gains less on validation stays at one half


@dataclass(frozen=True)
class Decision:
    """How outputs become decisions: what an artefact carries beside its weights.

    Attributes
    ----------
    temperature : float
        Logits are divided by it; 1 for ratings.
    threshold : float, optional
        From this probability on, `positive` is said, or a tag is. None: the likeliest class.
    positive : int, optional
        Of two classes, the one that the threshold is for: the rarer one.
    """

    temperature: float = 1.0
    threshold: float | None = None
    positive: int | None = None

    def probabilities(self, goal: Goal, logits: np.ndarray) -> np.ndarray:
        """Return probabilities of classes or tags, shape (N, C); ratings (N, 1) as they are."""
        if goal.kind == "rating":
            return logits
        scaled = logits / self.temperature
        return softmax(scaled, axis=1) if goal.kind == "classes" else expit(scaled)

    def decide(self, goal: Goal, probabilities: np.ndarray) -> np.ndarray:
        """Return what is said, in the form of the goal's encoded labels.

        Examples
        --------
        >>> goal = Goal("classes", ("bad", "good"), "")
        >>> said = np.array([[0.4, 0.6], [0.1, 0.9]])
        >>> Decision(threshold=0.3, positive=0).decide(goal, said).tolist()
        [0, 1]
        """
        if goal.kind == "rating":
            return probabilities[:, 0]
        if goal.kind == "tags":
            return (probabilities >= (0.5 if self.threshold is None else self.threshold)).astype(
                int
            )
        if self.threshold is None or self.positive is None:
            return probabilities.argmax(axis=1)
        flagged = probabilities[:, self.positive] >= self.threshold
        return np.where(flagged, self.positive, 1 - self.positive)

    def use(self, goal: Goal, max_tokens: int) -> dict[str, Any]:
        """Return what the record of the model says about its use, as `serving.rules` reads it.

        Raises
        ------
        ValueError
            If the service would refuse it.

        Examples
        --------
        >>> Decision(2.0).use(Goal("classes", ("a", "b", "c"), ""), 64)["temperature"]
        2.0
        """
        use = asdict(Use(goal.kind, max_tokens, list(goal.names), **asdict(self)))
        rules_of(goal.names, use)  # what the service would refuse is never written
        return use


def choose(
    goal: Goal, logits: np.ndarray, targets: np.ndarray, miss: float | None = None
) -> Decision:
    """Choose temperature and threshold on validation rows.

    Parameters
    ----------
    goal : Goal
    logits : ndarray of shape (N, C)
    targets : ndarray of shape (N,), or (N, C) for tags
    miss : float, optional
        Of two classes: what missing a row of the rarer one costs, if a false alarm costs 1. The
        cheapest threshold is then taken; else the one of the highest F1.

    Raises
    ------
    ValueError
        If a price is given and there are not two classes.
    """
    if miss is not None and not goal.is_binary:
        raise ValueError(f"a price of a miss needs two classes, here are {len(goal.names)} outputs")
    if goal.kind == "rating":
        return Decision()
    if goal.kind == "classes":
        temperature = _temperature(logits, targets)
        if not goal.is_binary:
            return Decision(temperature)
        positive = int(np.bincount(targets, minlength=2).argmin())
        probabilities = Decision(temperature).probabilities(goal, logits)[:, positive]
        table = threshold_table((targets == positive).astype(int), probabilities)
        if miss is not None:
            return Decision(temperature, min(table.cheapest(miss), 1.0), positive)
        return Decision(temperature, _best(table, _macro_f1(table)), positive)
    flat = logits.ravel()  # each tag is a question of its own: yes or no
    temperature = _temperature(np.stack([np.zeros_like(flat), flat], axis=1), targets.ravel())
    table = threshold_table(targets.ravel(), expit(flat / temperature))
    return Decision(temperature, _best(table, table.f1))


def _temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(np.clip(fit_temperature(logits, targets), COLDEST, HOTTEST))


def _macro_f1(table: ThresholdTable) -> np.ndarray:
    common_right = table.false_alarms[0] - table.false_alarms
    common = 2 * common_right / np.maximum(2 * common_right + table.missed + table.false_alarms, 1)
    return (table.f1 + common) / 2


def _best(table: ThresholdTable, f1: np.ndarray) -> float:
    """Return the threshold with the highest F1; one half if that is hardly worse."""
    if f1.max() - f1[table.place(0.5)] <= WORTH_MOVING:
        return 0.5
    return min(float(table.thresholds[f1.argmax()]), 1.0)  # infinite, the last: never


# --- scores -------------------------------------------------------------------------------

Score = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class F1:
    """F1 of all tags together, and its mean over tags."""

    micro: float
    macro: float


def f1_of(targets: np.ndarray, said: np.ndarray) -> F1:
    """Return F1 of columns of 0 and 1, shape (N, C); a tag that nobody has or says counts 0.

    It is scikit-learn's, a hundred times faster: an interval asks for it thousands of times.

    Examples
    --------
    >>> f1_of(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
    F1(micro=0.8, macro=0.8333333333333333)
    """
    right = (targets & said).sum(axis=0)  # (C,)
    both = targets.sum(axis=0) + said.sum(axis=0)  # (C,)
    micro = 2 * right.sum() / max(both.sum(), 1)
    return F1(float(micro), float((2 * right / np.maximum(both, 1)).mean()))


def scores_of(goal: Goal) -> dict[str, Score]:
    """Return the scores of a goal, by name; each takes targets and decisions. Higher is better.

    The mean absolute error is the exception: it is in the ratings' own units.
    """
    if goal.kind == "rating":
        return {
            "R²": lambda targets, said: float(r2_score(targets, said)),
            "Spearman's rho": _rank_correlation,
            "mean absolute error": lambda targets, said: float(np.abs(targets - said).mean()),
        }
    if goal.kind == "tags":
        return {
            "micro F1": lambda targets, said: f1_of(targets, said).micro,
            "macro F1": lambda targets, said: f1_of(targets, said).macro,
            "all tags right": lambda targets, said: float((targets == said).all(axis=1).mean()),
        }
    each = np.eye(len(goal.names), dtype=int)  # a class is a tag that stands alone
    return {
        "macro F1": lambda targets, said: f1_of(each[targets], each[said]).macro,
        "accuracy": lambda targets, said: float((targets == said).mean()),
    }


def headline(goal: Goal) -> tuple[str, Score]:
    """Return the name and the function of the score by which things are compared."""
    return next(iter(scores_of(goal).items()))


def with_intervals(
    goal: Goal, targets: np.ndarray, said: np.ndarray, resamples: int = 1000
) -> dict[str, Interval]:
    """Return every score with its bootstrap interval over rows."""
    return {
        name: bootstrap_interval(score, targets, said, resamples=resamples)
        for name, score in scores_of(goal).items()
    }


def gain(goal: Goal, targets: np.ndarray, said: np.ndarray, other: np.ndarray) -> Interval:
    """Return by how much one set of decisions is better than another on the same rows."""
    _, score = headline(goal)
    return bootstrap_interval(
        lambda t, a, b: score(t, a) - score(t, b), targets, said, other, resamples=1000
    )


def _rank_correlation(targets: np.ndarray, said: np.ndarray) -> float:
    if np.ptp(targets) == 0 or np.ptp(said) == 0:  # it has no value then; they know nothing
        return 0.0
    return float(spearmanr(targets, said).statistic)
