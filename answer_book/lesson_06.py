"""Items of lesson 06: averages of F1, AUC with ties, calibration, McNemar; a flattering report."""

import math

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

# --- three averages of F1 ---------------------------------------------------------------------


def f1_cases(generator: np.random.Generator) -> list[Case]:
    """Classes of unequal size; one that is never answered, one that does not occur at all."""
    shares = np.array([0.6, 0.3, 0.1])
    tables = []
    for rows in (30, 51):
        truth = generator.choice(3, rows, p=shares)
        answer = np.where(generator.random(rows) < 0.6, truth, generator.integers(0, 3, rows))
        tables.append((f"{rows} reviews of 3 classes", truth, answer, 3))
    truth = generator.choice(3, 40, p=shares)
    truth[:2] = 1
    answer = np.where(generator.random(40) < 0.5, truth, 0)
    never = np.where(answer == 2, 0, answer)
    tables.append(("a class that is never answered", truth, never, 3))
    tables.append(("a fourth class that neither occurs nor is answered", truth, answer, 4))
    return [
        Case(name, {"truth": truth, "answer": answer, "num_classes": C})
        for name, truth, answer, C in tables
    ]


def f1_averages(truth: np.ndarray, answer: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return the macro, weighted and micro average."""
    both, true, said = (
        np.bincount(rows, minlength=num_classes) for rows in (truth[truth == answer], truth, answer)
    )
    f1 = 2 * both / np.maximum(true + said, 1)  # (C,)
    return {
        "macro": float(f1.mean()),
        "weighted": float((f1 * true).sum() / true.sum()),
        "micro": float((truth == answer).mean()),
    }


# The F1 of mean precision and mean recall.
OF_MEANS = """    p, r = (both / np.maximum(said, 1)).mean(), (both / np.maximum(true, 1)).mean()
    return"""

F1 = Item(
    name="06.f1_averages",
    title="One F1 or another",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
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
            edit(f1_averages, '"macro"', '"weighted"', '"weighted"', '"macro"'),
        ),
        Mistake(
            "nan",
            "a class that neither occurs nor is answered gives 0/0: its F1 counts as 0 here",
            edit(f1_averages, "np.maximum(true + said, 1)", "(true + said)"),
        ),
        Mistake(
            "nan_macro",
            "a class that neither occurs nor is answered makes the macro average 0/0: its F1 "
            "counts as 0 here",
            edit(f1_averages, "f1.mean()", "(2 * both / (true + said)).mean()"),
        ),
        Mistake(
            "absent_left_out",
            "the macro average leaves out a class that does not occur: num_classes says how many "
            "there are, and such a class counts as 0",
            edit(f1_averages, "f1.mean()", "f1[true + said > 0].mean()"),
        ),
        Mistake(
            "weighted_by_answers",
            "the weighted average is weighted by how often a class was answered: the weights are "
            "how often it is true",
            edit(f1_averages, "(f1 * true).sum() / true", "(f1 * said).sum() / said"),
        ),
        Mistake(
            "f1_of_means",
            "the macro average is the F1 of mean precision and mean recall: take the F1 of each "
            "class first, then their mean",
            edit(f1_averages, "    return", OF_MEANS, "f1.mean()", "2 * p * r / (p + r)"),
        ),
        Mistake(
            "micro_is_macro",
            "micro is computed like macro: it pools the counts of all classes first, and comes out "
            "as the share of right answers",
            edit(f1_averages, "(truth == answer)", "f1"),
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


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the share of pairs in the right order, a tie counting one half."""
    d = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    return float((d > 0).mean() + (d == 0).mean() / 2)


SHARE = "(d > 0).mean() + (d == 0).mean() / 2"

AUC = Item(
    name="06.auc",
    title="AUC without a curve",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
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
            edit(auc, SHARE, "(d > 0).mean()"),
        ),
        Mistake(
            "ties_won",
            "a pair with equal scores counts as right: it is worth one half, or a model that "
            "says the same of everything would be perfect",
            edit(auc, SHARE, "(d >= 0).mean()"),
        ),
        Mistake(
            "ties_left_out",
            "pairs with equal scores are left out: they stay in the total and count one half",
            edit(auc, SHARE, "(d > 0).sum() / (d != 0).sum()"),
        ),
        Mistake(
            "reversed",
            "the pairs are counted the wrong way round: right is the positive review above the "
            "negative one",
            edit(auc, "d > 0", "d < 0"),
        ),
        Mistake(
            "hard_answers",
            "the scores were cut into 0 and 1 first: the order within each half is lost",
            edit(auc, "    d =", "    scores = np.where(scores >= 0.5, 1.0, 0.0)\n    d ="),
        ),
        Mistake(
            "all_pairs",
            "divided by all pairs of reviews: only pairs of a positive and a negative one count",
            edit(auc, SHARE, f"({SHARE}) * d.size / len(labels) ** 2"),
        ),
        Mistake(
            "count",
            "this is the number of pairs: a share of them is asked for",
            edit(auc, SHARE, f"({SHARE}) * d.size"),
        ),
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


def calibration_error(said: np.ndarray, was: np.ndarray, bins: int) -> float:
    """Return the mean gap of the bins, weighted by their rows."""
    place = np.minimum((said * bins).astype(int), bins - 1)
    error = 0.0
    for k in range(bins):
        rows = place == k
        if rows.any():
            gap = abs(said[rows].mean() - was[rows].mean())
            error += gap * rows.mean()
    return float(error)


ECE = Item(
    name="06.calibration_error",
    title="Is 0.8 four times in five?",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
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
            edit(calibration_error, "if rows.any()", "if True"),
        ),
        Mistake(
            "ones_lost",
            "a probability of exactly 1 falls into no bin: it belongs to the last one",
            edit(calibration_error, "np.minimum(", "(", ", bins - 1)", ")"),
        ),
        Mistake(
            "unweighted",
            "every bin counts the same: weigh each gap by the number of its reviews",
            edit(calibration_error, "gap * rows.mean()", "gap / len(set(place))"),
        ),
        Mistake(
            "all_bins",
            "the gaps are summed and divided by the number of bins: weigh each by its share of "
            "the reviews",
            edit(calibration_error, "gap * rows.mean()", "gap / bins"),
        ),
        Mistake(
            "signed",
            "gaps of opposite sign cancel: take the absolute value in each bin, before averaging",
            edit(calibration_error, "abs", ""),
        ),
        Mistake(
            "bin_centres",
            "the middle of the bin is taken for what was said: use the mean probability of its "
            "reviews",
            edit(calibration_error, "said[rows].mean()", "(k + 0.5) / bins"),
        ),
        Mistake(
            "worst_bin",
            "this is the largest gap: a mean is asked for",
            edit(calibration_error, "error += gap * rows.mean()", "error = max(error, gap)"),
        ),
        Mistake(
            "each_row",
            "every review is compared with its own outcome, 0 or 1: a probability can only be "
            "checked against the share of a whole bin",
            lambda said, was, bins: float(abs(said - was).mean()),
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


def mcnemar_p(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Return the exact two-sided p value."""
    wins = int((first_right & ~second_right).sum())
    losses = int((second_right & ~first_right).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


RESULT = "min(1.0, 2 * tail)"
CHI_SQUARE = "math.erfc(abs(wins - losses) / math.sqrt(2 * n)) if n else 1.0"

MCNEMAR = Item(
    name="06.mcnemar_p",
    title="Is the better model better?",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
    cases=mcnemar_cases,
    reference=mcnemar_p,
    withheld=("course_utils.intervals.mcnemar", "scipy.stats.binomtest"),
    diagnoses=(
        Mistake(
            "one_sided",
            "only one tail: ask how often a fair coin strays as far in *either* direction",
            edit(mcnemar_p, RESULT, "tail"),
        ),
        Mistake(
            "above_one",
            "with as many wins as losses this gives more than 1: both tails hold the middle then. "
            "A probability ends at 1",
            edit(mcnemar_p, RESULT, "2 * tail"),
        ),
        Mistake(
            "no_disagreement",
            "two models that agree on every review give 0: that is no evidence of a difference, "
            "the p value is 1",
            edit(mcnemar_p, RESULT, f"{RESULT} if n else 0.0"),
        ),
        Mistake(
            "chi_square",
            "this is the chi-square approximation: with few disagreements it is too small. Count "
            "the coin's outcomes exactly",
            edit(mcnemar_p, RESULT, CHI_SQUARE),
        ),
        Mistake(
            "exactly_as_many",
            "the probability of exactly this many wins: add those of all that are as far off or "
            "farther",
            edit(
                mcnemar_p,
                *(
                    "sum(math.comb(n, k) for k in range(min(wins, losses) + 1))",
                    "math.comb(n, wins)",
                ),
            ),
        ),
        Mistake(
            "all_right_answers",
            "reviews that both models got right are counted as wins of both: only those on which "
            "they differ say anything",
            edit(mcnemar_p, " & ~second_right", "", " & ~first_right", ""),
        ),
        Mistake(
            "agreements",
            "these are the reviews on which the models agree: take those on which they differ",
            edit(mcnemar_p, "& ~second", "& second", "second_right & ~", "~second_right & ~"),
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


def f1_of_batches(labels: np.ndarray, answer: np.ndarray) -> float:
    """Return the mean F1 of batches of 16."""
    starts = range(0, len(answer), 16)
    return float(np.mean([f1_of(labels[i : i + 16], answer[i : i + 16]) for i in starts]))


def report(
    validation_labels: np.ndarray,
    validation_scores: np.ndarray,
    test_labels: np.ndarray,
    test_scores: np.ndarray,
) -> dict[str, float]:
    """Choose the threshold on the validation reviews, judge it on the test reviews."""
    labels, scores = validation_labels, validation_scores
    threshold = max(np.unique(scores), key=lambda t: f1_of(labels, (scores >= t).astype(int)))
    answer = (test_scores >= threshold).astype(int)
    return {
        "threshold": float(threshold),
        "f1": f1_of(test_labels, answer),
        "auc": auc(test_labels, test_scores),
    }


REPORT = Item(
    name="06.report",
    title="Bug hunt: a report that flatters",
    **Rating(difficulty=3, importance=5, minutes=15, points=3),
    cases=report_cases,
    reference=report,
    diagnoses=remaining(
        report,
        {
            "peeks": (
                "the threshold is chosen on the test reviews: it will look better there than "
                "anywhere else. Choose it on the validation reviews",
                *("= validation_labels, validation_scores", "= test_labels, test_scores"),
            ),
            "batches": (
                "F1 is averaged over batches: a mean of F1s is not the F1 of all reviews. Collect "
                "the answers of all batches, then compute it once",
                *("f1_of(test_labels", "f1_of_batches(test_labels"),
            ),
            "hardens": (
                "AUC is computed from the answers 0 and 1: it needs the scores, whose order it "
                "judges",
                *("auc(test_labels, test_scores)", "auc(test_labels, answer)"),
            ),
        },
    ),
)

ITEMS = (F1, AUC, ECE, MCNEMAR, REPORT)
