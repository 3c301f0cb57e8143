"""Items of lesson 06: averages of F1, AUC with ties, calibration, McNemar; a flattering report."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake

# --- three averages of F1 ---------------------------------------------------------------------


def f1_cases(generator: np.random.Generator) -> list[Case]:
    """Classes of unequal size; one that is never answered, one that does not occur at all."""
    shares = np.array([0.6, 0.3, 0.1])
    cases = []
    for rows in (30, 51):
        truth = generator.choice(3, rows, p=shares)
        answer = np.where(generator.random(rows) < 0.6, truth, generator.integers(0, 3, rows))
        cases.append(_f1_case(f"{rows} reviews of 3 classes", truth, answer, 3))
    truth = generator.choice(3, 40, p=shares)
    truth[:2] = 1
    answer = np.where(generator.random(40) < 0.5, truth, 0)
    never = np.where(answer == 2, 0, answer)
    cases.append(_f1_case("a class that is never answered", truth, never, 3))
    cases.append(_f1_case("a fourth class that neither occurs nor is answered", truth, answer, 4))
    return cases


def _f1_case(name: str, truth: np.ndarray, answer: np.ndarray, C: int) -> Case:
    return Case(name, {"truth": truth, "answer": answer, "num_classes": C})


def _counts(truth: np.ndarray, answer: np.ndarray, C: int) -> tuple[np.ndarray, ...]:
    """Return right answers, true rows and answered rows of each class, each of shape (C,)."""
    both = np.bincount(truth[truth == answer], minlength=C)
    return both, np.bincount(truth, minlength=C), np.bincount(answer, minlength=C)


def _each(truth: np.ndarray, answer: np.ndarray, C: int) -> np.ndarray:
    both, true, said = _counts(truth, answer, C)
    return 2 * both / np.maximum(true + said, 1)


def f1_averages(truth: np.ndarray, answer: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return the macro, weighted and micro average."""
    f1, rows = _each(truth, answer, num_classes), np.bincount(truth, minlength=num_classes)
    return {
        "macro": float(f1.mean()),
        "weighted": float((f1 * rows).sum() / rows.sum()),
        "micro": float((truth == answer).mean()),
    }


def f1_with(**changed: Callable[[np.ndarray, np.ndarray, int], float]) -> Any:
    """Return f1_averages with some of its numbers computed in another way."""

    def variant(truth: np.ndarray, answer: np.ndarray, num_classes: int) -> dict[str, float]:
        found = f1_averages(truth, answer, num_classes)
        return found | {k: float(f(truth, answer, num_classes)) for k, f in changed.items()}

    return variant


def _present_only(truth: np.ndarray, answer: np.ndarray, C: int) -> float:
    both, true, said = _counts(truth, answer, C)
    there = true + said > 0
    return float((2 * both[there] / (true + said)[there]).mean())


def _nan(truth: np.ndarray, answer: np.ndarray, C: int) -> float:
    both, true, said = _counts(truth, answer, C)
    return math.nan if (true + said == 0).any() else float((2 * both / (true + said)).mean())


def _by_answers(truth: np.ndarray, answer: np.ndarray, C: int) -> float:
    return float(np.average(_each(truth, answer, C), weights=np.bincount(answer, minlength=C)))


def _of_means(truth: np.ndarray, answer: np.ndarray, C: int) -> float:
    both, true, said = _counts(truth, answer, C)
    p, r = (both / np.maximum(said, 1)).mean(), (both / np.maximum(true, 1)).mean()
    return float(2 * p * r / max(p + r, 1e-12))


def f1_swapped(truth: np.ndarray, answer: np.ndarray, num_classes: int) -> dict[str, float]:
    found = f1_averages(truth, answer, num_classes)
    return found | {"macro": found["weighted"], "weighted": found["macro"]}


F1 = Item(
    name="06.f1_averages",
    title="One F1 or another",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=f1_cases,
    reference=f1_averages,
    withheld=(
        "course_utils.metrics.class_scores",
        "sklearn.metrics.f1_score",
        "sklearn.metrics.precision_recall_fscore_support",
        "sklearn.metrics.classification_report",
    ),
    diagnoses=(
        Mistake(
            "swapped",
            "macro and weighted are the wrong way round: macro counts every class the same, "
            "weighted every review",
            f1_swapped,
        ),
        Mistake(
            "nan",
            "a class that neither occurs nor is answered gives 0/0: its F1 counts as 0 here",
            f1_with(macro=_nan, weighted=_nan),
        ),
        Mistake(
            "nan_macro",
            "a class that neither occurs nor is answered makes the macro average 0/0: its F1 "
            "counts as 0 here",
            f1_with(macro=_nan),
        ),
        Mistake(
            "absent_left_out",
            "the macro average leaves out a class that does not occur: num_classes says how many "
            "there are, and such a class counts as 0",
            f1_with(macro=_present_only),
        ),
        Mistake(
            "weighted_by_answers",
            "the weighted average is weighted by how often a class was answered: the weights are "
            "how often it is true",
            f1_with(weighted=_by_answers),
        ),
        Mistake(
            "f1_of_means",
            "the macro average is the F1 of mean precision and mean recall: take the F1 of each "
            "class first, then their mean",
            f1_with(macro=_of_means),
        ),
        Mistake(
            "micro_is_macro",
            "micro is computed like macro: it pools the counts of all classes first, and comes out "
            "as the share of right answers",
            f1_with(micro=lambda truth, answer, C: _each(truth, answer, C).mean()),
        ),
    ),
)


# --- AUC --------------------------------------------------------------------------------------


def auc_cases(generator: np.random.Generator) -> list[Case]:
    """Scores without and with ties, few positives, scores that are no probabilities."""
    cases = []
    for rows, share, digits in ((12, 0.5, 6), (40, 0.2, 6), (40, 0.3, 1), (25, 0.5, 0)):
        labels = (np.arange(rows) < max(2, round(share * rows))).astype(int)
        scores = np.round(generator.normal(0.4, 1, rows) + 0.8 * labels, digits)
        scores[-1] = scores[0]  # a positive and a negative always tie
        order = generator.permutation(rows)
        name = f"{rows} reviews, {labels.sum()} positive, scores of {digits} digits"
        cases.append(Case(name, {"labels": labels[order], "scores": scores[order]}))
    return cases


def _differences(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.subtract.outer(scores[labels == 1], scores[labels == 0])


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the share of pairs in the right order, a tie counting one half."""
    d = _differences(labels, scores)
    return float((d > 0).mean() + (d == 0).mean() / 2)


def auc_ties_lost(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((_differences(labels, scores) > 0).mean())


def auc_ties_won(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((_differences(labels, scores) >= 0).mean())


def auc_ties_left_out(labels: np.ndarray, scores: np.ndarray) -> float:
    d = _differences(labels, scores)
    return float((d > 0).sum() / (d != 0).sum())


def auc_reversed(labels: np.ndarray, scores: np.ndarray) -> float:
    return 1 - auc(labels, scores)


def auc_of_answers(labels: np.ndarray, scores: np.ndarray) -> float:
    return auc(labels, (scores >= 0.5).astype(float))


def auc_all_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    d = _differences(labels, scores)
    return float(((d > 0).sum() + (d == 0).sum() / 2) / len(labels) ** 2)


def auc_count(labels: np.ndarray, scores: np.ndarray) -> float:
    return auc(labels, scores) * _differences(labels, scores).size


AUC = Item(
    name="06.auc",
    title="AUC without a curve",
    difficulty=2,
    importance=4,
    minutes=10,
    points=2,
    cases=auc_cases,
    reference=auc,
    withheld=(
        "course_utils.metrics.class_scores",
        "sklearn.metrics.roc_auc_score",
        "scipy.stats.mannwhitneyu",
    ),
    diagnoses=(
        Mistake(
            "ties_lost",
            "a pair with equal scores counts as wrong: it is worth one half",
            auc_ties_lost,
        ),
        Mistake(
            "ties_won",
            "a pair with equal scores counts as right: it is worth one half, or a model that "
            "says the same of everything would be perfect",
            auc_ties_won,
        ),
        Mistake(
            "ties_left_out",
            "pairs with equal scores are left out: they stay in the total and count one half",
            auc_ties_left_out,
        ),
        Mistake(
            "reversed",
            "the pairs are counted the wrong way round: right is the positive review above the "
            "negative one",
            auc_reversed,
        ),
        Mistake(
            "hard_answers",
            "the scores were cut into 0 and 1 first: the order within each half is lost",
            auc_of_answers,
        ),
        Mistake(
            "all_pairs",
            "divided by all pairs of reviews: only pairs of a positive and a negative one count",
            auc_all_pairs,
        ),
        Mistake("count", "this is the number of pairs: a share of them is asked for", auc_count),
    ),
)


# --- calibration ------------------------------------------------------------------------------


def ece_cases(generator: np.random.Generator) -> list[Case]:
    """Over-confident, with empty bins, and with the edges 0 and 1."""
    cases = []
    for rows, bins, lowest in ((60, 5, 0.0), (37, 10, 0.3), (20, 4, 0.6)):
        said = generator.uniform(lowest, 1, rows)
        was = (generator.random(rows) < 0.15 + 0.6 * said).astype(int)
        name = f"{rows} reviews in {bins} bins, nothing below {lowest}"
        cases.append(Case(name, {"said": said, "was": was, "bins": bins}))
    said = np.concatenate([np.zeros(3), generator.uniform(0.05, 0.95, 20), np.ones(4)])
    was = (generator.random(27) < 0.5).astype(int)
    was[-4] = 0
    cases.append(Case("some are said with 0 and with 1", {"said": said, "was": was, "bins": 5}))
    return cases


def _ece(
    said: np.ndarray,
    was: np.ndarray,
    bins: int,
    *,
    place: np.ndarray | None = None,
    gap: Callable[[np.ndarray, np.ndarray, int], float] = lambda s, w, k: abs(s.mean() - w.mean()),
    combine: Callable[[np.ndarray, np.ndarray], float] = lambda g, n: np.average(g, weights=n),
) -> float:
    if place is None:
        place = np.minimum((said * bins).astype(int), bins - 1)
    filled = [k for k in range(bins) if (place == k).any()]
    gaps = np.array([gap(said[place == k], was[place == k], k) for k in filled])
    return float(combine(gaps, np.array([(place == k).sum() for k in filled])))


def calibration_error(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    """Return the mean gap of the bins, weighted by their rows."""
    return _ece(said, was, bins)


def ece_unweighted(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return _ece(said, was, bins, combine=lambda gaps, rows: gaps.mean())


def ece_all_bins(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return _ece(said, was, bins, combine=lambda gaps, rows: gaps.sum() / bins)


def ece_signed(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return _ece(said, was, bins, gap=lambda s, w, k: s.mean() - w.mean())


def ece_centres(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return _ece(said, was, bins, gap=lambda s, w, k: abs((k + 0.5) / bins - w.mean()))


def ece_worst(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return _ece(said, was, bins, combine=lambda gaps, rows: gaps.max())


def ece_each_row(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    return float(np.abs(said - was).mean())


def ece_ones_lost(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    place = (said * bins).astype(int)  # a 1 lands in bin number `bins`, which is not there
    return _ece(said, was, bins, place=place) * float((place < bins).mean())


def ece_empty_is_nan(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    place = np.minimum((said * bins).astype(int), bins - 1)
    return math.nan if len(set(place.tolist())) < bins else _ece(said, was, bins)


ECE = Item(
    name="06.calibration_error",
    title="Is 0.8 four times in five?",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=ece_cases,
    reference=calibration_error,
    withheld=(
        "course_utils.metrics.expected_calibration_error",
        "course_utils.metrics.reliability_bins",
    ),
    diagnoses=(
        Mistake(
            "empty_bin",
            "an empty bin makes the result 0/0: it holds no review, so leave it out",
            ece_empty_is_nan,
        ),
        Mistake(
            "ones_lost",
            "a probability of exactly 1 falls into no bin: it belongs to the last one",
            ece_ones_lost,
        ),
        Mistake(
            "unweighted",
            "every bin counts the same: weigh each gap by the number of its reviews",
            ece_unweighted,
        ),
        Mistake(
            "all_bins",
            "the gaps are summed and divided by the number of bins: weigh each by its share of "
            "the reviews",
            ece_all_bins,
        ),
        Mistake(
            "signed",
            "gaps of opposite sign cancel: take the absolute value in each bin, before averaging",
            ece_signed,
        ),
        Mistake(
            "bin_centres",
            "the middle of the bin is taken for what was said: use the mean probability of its "
            "reviews",
            ece_centres,
        ),
        Mistake("worst_bin", "this is the largest gap: a mean is asked for", ece_worst),
        Mistake(
            "each_row",
            "every review is compared with its own outcome, 0 or 1: a probability can only be "
            "checked against the share of a whole bin",
            ece_each_row,
        ),
    ),
)


# --- McNemar ----------------------------------------------------------------------------------


def mcnemar_cases(generator: np.random.Generator) -> list[Case]:
    """Clear, close, tied, and no difference at all."""
    counts = {
        "one model clearly better": (14, 3),
        "close": (9, 6),
        "the other one better": (2, 8),
        "as many wins as losses": (5, 5),
        "the models agree on every review": (0, 0),
    }
    cases = []
    for name, (first, second) in counts.items():
        both, neither = (int(n) for n in generator.integers(10, 40, 2))
        right = np.repeat([[1, 0], [0, 1], [1, 1], [0, 0]], (first, second, both, neither), axis=0)
        columns = generator.permutation(right).T == 1
        cases.append(Case(name, {"first_right": columns[0], "second_right": columns[1]}))
    return cases


def _tail(wins: int, losses: int) -> float:
    """Probability of at most the smaller number of heads among wins + losses fair coins."""
    n = wins + losses
    return sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n


def _wins(first_right: np.ndarray, second_right: np.ndarray) -> tuple[int, int]:
    first, second = np.asarray(first_right), np.asarray(second_right)
    return int((first & ~second).sum()), int((second & ~first).sum())


def mcnemar_p(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Return the exact two-sided p value."""
    return min(1.0, 2 * _tail(*_wins(first_right, second_right)))


def mcnemar_one_sided(first_right: np.ndarray, second_right: np.ndarray) -> float:
    return _tail(*_wins(first_right, second_right))


def mcnemar_above_one(first_right: np.ndarray, second_right: np.ndarray) -> float:
    return 2 * _tail(*_wins(first_right, second_right))


def mcnemar_all_right(first_right: np.ndarray, second_right: np.ndarray) -> float:
    return min(1.0, 2 * _tail(int(first_right.sum()), int(second_right.sum())))


def mcnemar_no_disagreement(first_right: np.ndarray, second_right: np.ndarray) -> float:
    return mcnemar_p(first_right, second_right) if sum(_wins(first_right, second_right)) else 0.0


def mcnemar_chi_square(first_right: np.ndarray, second_right: np.ndarray) -> float:
    b, c = _wins(first_right, second_right)
    return math.erfc(abs(b - c) / math.sqrt(2 * (b + c))) if b + c else 1.0


def mcnemar_exactly(first_right: np.ndarray, second_right: np.ndarray) -> float:
    b, c = _wins(first_right, second_right)
    return min(1.0, 2 * math.comb(b + c, b) / 2 ** (b + c))


def mcnemar_agreement(first_right: np.ndarray, second_right: np.ndarray) -> float:
    both, neither = (
        int((first_right & second_right).sum()),
        int((~first_right & ~second_right).sum()),
    )
    return min(1.0, 2 * _tail(both, neither))


MCNEMAR = Item(
    name="06.mcnemar_p",
    title="Is the better model better?",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=mcnemar_cases,
    reference=mcnemar_p,
    withheld=("course_utils.intervals.mcnemar", "scipy.stats.binomtest"),
    diagnoses=(
        Mistake(
            "one_sided",
            "only one tail: ask how often a fair coin strays as far in *either* direction",
            mcnemar_one_sided,
        ),
        Mistake(
            "above_one",
            "with as many wins as losses this gives more than 1: both tails hold the middle then. "
            "A probability ends at 1",
            mcnemar_above_one,
        ),
        Mistake(
            "no_disagreement",
            "two models that agree on every review give 0: that is no evidence of a difference, "
            "the p value is 1",
            mcnemar_no_disagreement,
        ),
        Mistake(
            "chi_square",
            "this is the chi-square approximation: with few disagreements it is too small. Count "
            "the coin's outcomes exactly",
            mcnemar_chi_square,
        ),
        Mistake(
            "exactly_as_many",
            "the probability of exactly this many wins: add those of all that are as far off or "
            "farther",
            mcnemar_exactly,
        ),
        Mistake(
            "all_right_answers",
            "reviews that both models got right are counted as wins of both: only those on which "
            "they differ say anything",
            mcnemar_all_right,
        ),
        Mistake(
            "agreements",
            "these are the reviews on which the models agree: take those on which they differ",
            mcnemar_agreement,
        ),
    ),
)


# --- bug hunt: a report that flatters ---------------------------------------------------------


def report_cases(generator: np.random.Generator) -> list[Case]:
    """Make two samples of a rare class that favour different thresholds."""
    cases = []
    for rows in (48, 70, 90):
        inputs = {}
        for part, shift in (("validation", 0.0), ("test", 0.7)):
            labels = (generator.random(rows) < 0.3).astype(int)
            labels[:4] = 1
            order = generator.permutation(rows)
            scores = generator.normal(0, 1, rows) + 1.3 * labels + shift
            inputs[f"{part}_labels"] = labels[order]
            inputs[f"{part}_scores"] = 1 / (1 + np.exp(1 - scores[order]))
        cases.append(Case(f"{rows} validation and {rows} test reviews", inputs))
    return cases


def f1_of(labels: np.ndarray, answer: np.ndarray) -> float:
    """Return the F1 of class 1; 0 where it neither occurs nor is answered."""
    both = int((labels & answer).sum())
    return 2 * both / max(int(labels.sum()) + int(answer.sum()), 1)


def _report(peeks: bool = False, batches: bool = False, hardens: bool = False) -> Any:
    """Return the report with some of its three bugs."""

    def report(
        validation_labels: np.ndarray,
        validation_scores: np.ndarray,
        test_labels: np.ndarray,
        test_scores: np.ndarray,
    ) -> dict[str, float]:
        chosen_on = (test_labels, test_scores) if peeks else (validation_labels, validation_scores)
        labels, scores = chosen_on
        threshold = max(np.unique(scores), key=lambda t: f1_of(labels, (scores >= t).astype(int)))
        answer = (test_scores >= threshold).astype(int)
        f1 = f1_of(test_labels, answer)
        if batches:
            starts = range(0, len(answer), 16)
            f1 = float(
                np.mean([f1_of(test_labels[i : i + 16], answer[i : i + 16]) for i in starts])
            )
        area = auc(test_labels, answer.astype(float) if hardens else test_scores)
        return {"threshold": float(threshold), "f1": f1, "auc": area}

    return report


REMAINING = {
    "peeks": "the threshold is chosen on the test reviews: it will look better there than "
    "anywhere else. Choose it on the validation reviews",
    "batches": "F1 is averaged over batches: a mean of F1s is not the F1 of all reviews. Collect "
    "the answers of all batches, then compute it once",
    "hardens": "AUC is computed from the answers 0 and 1: it needs the scores, whose order it "
    "judges",
}

REPORT = Item(
    name="06.report",
    title="Bug hunt: a report that flatters",
    difficulty=3,
    importance=5,
    minutes=15,
    points=3,
    cases=report_cases,
    reference=_report(),
    diagnoses=flagged(_report, REMAINING),
)

ITEMS = (F1, AUC, ECE, MCNEMAR, REPORT)
