"""What a model must beat: saying always the same, and words counted by a linear model.

TF-IDF and logistic regression train in seconds, need no GPU and are hard to beat where a single
word decides. Whoever has not looked at them does not know what fine-tuning bought.

Left out on purpose: searching long. Words or letters, and how strongly to regularise, are chosen
on the validation set; that is most of what there is to gain.
"""

import re
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from course_utils.own_data.decisions import Decision, choose, headline
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import Part

READINGS = ("word", "char_wb")  # letters for languages without blanks, and for typing errors
WORD = re.compile(r"\w\w")  # scikit-learn counts a word from two letters on
STRENGTHS = (0.3, 3.0, 30.0)  # scikit-learn's C: higher trusts the training rows more


@dataclass(frozen=True)
class Baseline:
    """A linear model over counted words, and how it decides.

    Attributes
    ----------
    pipeline : sklearn.pipeline.Pipeline
    decision : Decision
        Chosen on the validation set, as the model's own is.
    chosen : str
        What validation chose, in words.
    """

    pipeline: Pipeline
    decision: Decision
    chosen: str

    def decide(self, goal: Goal, part: Part) -> np.ndarray:
        """Return what it says about each row."""
        found = self.decision.probabilities(goal, linear_logits(self.pipeline, goal, part.texts))
        return self.decision.decide(goal, found)


def majority(goal: Goal, train: Part, size: int) -> np.ndarray:
    """Return what a model says that always says the same: commonest class, no tag, mean rating.

    Examples
    --------
    >>> goal = Goal("classes", ("bad", "good"), "")
    >>> majority(goal, Part((1, 2, 3), ("a", "b", "c"), np.array([1, 1, 0])), size=2).tolist()
    [1, 1]
    """
    if goal.kind == "rating":
        return np.full(size, train.targets.mean())
    if goal.kind == "tags":
        return np.tile((train.targets.mean(axis=0) >= 0.5).astype(int), (size, 1))
    return np.full(size, np.bincount(train.targets).argmax())


def fit_baseline(goal: Goal, train: Part, validation: Part, miss: float | None = None) -> Baseline:
    """Return the linear model that does best on the validation set.

    It is chosen by the headline score at a decision of its own, so that words, letters and
    strengths are compared at their best.
    """
    _, score = headline(goal)
    has_words = any(WORD.search(text) for text in train.texts)  # emoji, say, are none
    found = []
    for reading in READINGS if has_words else READINGS[1:]:
        for strength in STRENGTHS:
            with warnings.catch_warnings():  # of tags that a small sample has not: they stay off
                warnings.filterwarnings("ignore", message="Label .* is present in all training")
                pipeline = linear_model(goal, reading, strength).fit(train.texts, train.targets)
            logits = linear_logits(pipeline, goal, validation.texts)
            decision = choose(goal, logits, validation.targets, miss)
            said = decision.decide(goal, decision.probabilities(goal, logits))
            words = "words and pairs of words" if reading == "word" else "runs of 1 to 4 letters"
            model = Baseline(pipeline, decision, f"TF-IDF of {words}, strength {strength:g}")
            found.append((score(validation.targets, said), model))
    return max(found, key=lambda pair: pair[0])[1]  # the first of equals: words before letters


def linear_model(goal: Goal, reading: str, strength: float) -> Pipeline:
    """Return TF-IDF of words or letters with a linear model for the goal, not yet trained."""
    ngrams = (1, 2) if reading == "word" else (1, 4)
    counted = TfidfVectorizer(
        analyzer=reading, ngram_range=ngrams, sublinear_tf=True, max_features=200_000
    )
    if goal.kind == "rating":
        return make_pipeline(counted, Ridge(alpha=1 / strength))
    model = LogisticRegression(C=strength, max_iter=1000)
    return make_pipeline(counted, OneVsRestClassifier(model) if goal.kind == "tags" else model)


def linear_logits(pipeline: Pipeline, goal: Goal, texts: tuple[str, ...]) -> np.ndarray:
    """Return the linear model's outputs, shape (N, C), as an encoder's head gives them.

    A class that the training rows lacked is the least likely one everywhere.
    """
    if goal.kind == "rating":
        return np.asarray(pipeline.predict(texts)).reshape(-1, 1)
    found = np.asarray(pipeline.decision_function(texts))
    if goal.kind == "tags":
        return found.reshape(len(texts), -1)
    if found.ndim == 1:  # of two classes scikit-learn gives one number, that of the second
        found = np.stack([np.zeros(len(texts)), found], axis=1)
    logits = np.full((len(texts), len(goal.names)), found.min() - 5.0)
    logits[:, pipeline[-1].classes_] = found
    return logits
