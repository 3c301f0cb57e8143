"""Items of lesson 07: weights, focal loss, sampling, thresholds, priors; and a broken report."""

from functools import partial

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from answer_book.lesson_01 import sigmoid
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating, Symptom
from course_utils.grading.rules import lesson_07 as rules
from course_utils.grading.wire import Plain

# --- class weights ----------------------------------------------------------------------------


def weight_cases(generator: np.random.Generator) -> list[Case]:
    """Two, three and four classes of unequal size, and a class without rows."""
    classes = {
        "1 rare row in 12": [55, 5],
        "three classes": generator.integers(3, 20, 3).tolist(),
        "four classes": generator.integers(1, 30, 4).tolist(),
        "the last class has no rows": [*generator.integers(2, 9, 2).tolist(), 0],
    }
    cases = []
    for name, sizes in classes.items():
        labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
        cases.append(Case(name, {"labels": labels, "num_classes": len(sizes)}))
    return cases


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return N / (C n_c), and refuse a class without rows."""
    counts = np.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        raise ValueError("each class needs rows")
    return len(labels) / (num_classes * counts)


WEIGHT = "len(labels) / (num_classes * counts)"

WEIGHTS = Item(
    name="07.class_weights",
    title="Weights that let every class count the same",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=weight_cases,
    reference=class_weights,
    withheld=(
        "course_utils.imbalance.class_weights",
        "sklearn.utils.class_weight.compute_class_weight",
    ),
    diagnoses=(
        Mistake(
            "empty_class",
            "right, except that a class without rows must raise a ValueError: no weight makes up "
            "for rows that are not there",
            edit(class_weights, "(counts == 0).any()", "False"),
            ordinary=True,
        ),
        Mistake(
            "missing_classes",
            "too large by a factor of C: each class is to get N / C of the total weight, not N",
            edit(class_weights, WEIGHT, "len(labels) / counts"),
            ordinary=True,
        ),
        Mistake(
            "not_normalised",
            "the ratios are right, but one over the count makes every weight tiny: the average "
            "over the rows must be 1, or the weights also act as a smaller learning rate",
            edit(class_weights, WEIGHT, "1 / counts"),
            ordinary=True,
        ),
        Mistake(
            "sum_to_one",
            "the ratios are right, but these weights sum to 1 over the classes; their average over "
            "the rows is to be 1",
            edit(class_weights, WEIGHT, "1 / counts / (1 / counts).sum()"),
            ordinary=True,
        ),
        Mistake(
            "commonest_one",
            "the ratios are right, but here the commonest class has weight 1, so the average over "
            "the rows is above 1: that acts as a larger learning rate",
            edit(class_weights, WEIGHT, "counts.max() / counts"),
            ordinary=True,
        ),
        Mistake(
            "upside_down",
            "these are the shares of the classes: the common one counts most. Rare is to be heavy",
            edit(class_weights, WEIGHT, "counts / len(labels)"),
            ordinary=True,
        ),
    ),
)


# --- the gradient of the focal loss -----------------------------------------------------------


def focal_cases(generator: np.random.Generator) -> list[Case]:
    """Several gammas, cross-entropy among them, and logits that overflow an exponential."""
    cases = []
    for B, gamma in ((6, 2.0), (5, 0.0), (9, 0.5), (4, 3.0)):
        logits = generator.normal(0, 2, B)
        labels = generator.integers(0, 2, B).astype(float)
        inputs = {"logits": logits, "labels": labels, "gamma": gamma}
        cases.append(Case(f"{B} rows, gamma {gamma:g}", inputs))
    large = np.array([850.0, -850.0, 800.0, -800.0]) + generator.normal(0, 5, 4)
    inputs = {"logits": large, "labels": np.array([1.0, 1.0, 0.0, 0.0]), "gamma": 2.0}
    return [*cases, Case("logits near 800 and -800", inputs)]


def focal_gradient(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    """Return s (gamma p (1 - p)^gamma log p - (1 - p)^(gamma + 1)) / B, of each true class's p."""
    sign = 2 * labels - 1
    p, q = sigmoid(sign * logits), sigmoid(-sign * logits)  # q is 1 - p
    log_p = -np.logaddexp(0, -sign * logits)
    return sign * (gamma * p * q**gamma * log_p - q ** (gamma + 1)) / len(logits)


FOCAL = Item(
    name="07.focal_gradient",
    title="The gradient of the focal loss",
    **Rating(difficulty=3, importance=3, minutes=20, points=3),
    cases=focal_cases,
    reference=focal_gradient,
    withheld=("course_utils.imbalance.focal_loss",),
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            edit(focal_gradient, " / len(logits)", ""),
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            edit(focal_gradient, "return sign", "return -sign"),
        ),
        Mistake(
            "factor_constant",
            "(1 - p)^gamma is treated as a constant, but p depends on the logit there too: "
            "the product rule gives a second term",
            edit(focal_gradient, "gamma * p * q**gamma * log_p", "0"),
        ),
        Mistake(
            "positive_only",
            "p is the probability of class 1 in every row: it must be that of the row's true class",
            edit(focal_gradient, "2 * labels - 1", "1"),
        ),
        Mistake(
            "unsigned",
            "right for label 1, wrong sign for label 0: there the true class gains when the logit "
            "falls",
            edit(focal_gradient, "return sign * ", "return "),
        ),
        Mistake(
            "gamma_ignored",
            "this is the gradient of the cross-entropy: gamma does not occur in it",
            edit(focal_gradient, "gamma * p * q**gamma * log_p - q ** (gamma + 1)", "-q"),
        ),
        Mistake(
            "one_term_sign",
            "one of the two terms has the wrong sign: the derivative of (1 - p)^gamma by p is "
            "negative, and log p is negative too",
            edit(focal_gradient, "(gamma * p", "(-gamma * p"),
        ),
        Symptom(
            "unstable",
            "right for small logits, nan for large ones: compute log p from the logit as "
            "-logaddexp(0, -z), not as the logarithm of a p that may be 0",
            rules.right_but_for_large,
            edit(focal_gradient, "-np.logaddexp(0, -sign * logits)", "np.log(p)"),
        ),
    ),
)


# --- over-sampling inside the training fold ---------------------------------------------------


def fold_cases(generator: np.random.Generator) -> list[Case]:
    """Folds of several sizes; their rows are scattered over all rows."""
    cases = []
    for name, sizes, share in (
        ("1 rare row in 6", [40, 8], 0.6),
        ("three classes", [20, 12, 5], 0.7),
        ("classes already equal", [9, 9], 0.7),
    ):
        labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
        of_class = [generator.permutation(np.flatnonzero(labels == c)) for c in range(len(sizes))]
        fold = [rows[: round(share * len(rows))] for rows in of_class]
        train = generator.permutation(np.concatenate(fold))
        seed = int(generator.integers(1000))
        cases.append(Case(name, {"labels": labels, "train": train, "seed": seed}))
    return cases


def oversample_fold(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Go round the training rows of each class until all classes are equally frequent."""
    generator = np.random.default_rng(seed)
    groups = [train[labels[train] == c] for c in np.unique(labels[train])]
    size = max(map(len, groups))
    return np.concatenate([np.resize(generator.permutation(group), size) for group in groups])


DRAWN = "np.resize(generator.permutation(group), size)"


def fault(name: str, message: str, *texts: str) -> Symptom:
    """Return a diagnosis of what is first wrong with a fold, and an edit that makes it so."""
    return Symptom(name, message, partial(rules.first_fault, name), edit(oversample_fold, *texts))


FOLD = Item(
    name="07.oversample_fold",
    title="Over-sampling, inside the training fold only",
    **Rating(difficulty=2, importance=5, minutes=15, points=2),
    cases=fold_cases,
    reference=oversample_fold,
    agree=rules.fold_agrees,
    withheld=("course_utils.imbalance.oversample",),
    diagnoses=(
        fault(
            "leak",
            "rows that are not in the training fold were drawn: the model would learn from the "
            "rows it is judged on. Draw from `train` alone",
            *("groups = ", "train = np.arange(len(labels))\n    groups = "),
        ),
        fault(
            "positions",
            "these are positions within `train`, not row numbers of the data: index `train` "
            "with them once more",
            *("train[labels[train] == c]", "np.flatnonzero(labels[train] == c)"),
        ),
        fault(
            "undersampled",
            "every class was cut down to the rarest: that is under-sampling. Over-sampling "
            "repeats rare rows and leaves nothing out",
            *("max(", "min("),
        ),
        fault(
            "unchanged",
            "the classes are still as unequal as they were: nothing was repeated",
            *(DRAWN, "group"),
        ),
        fault(
            "lost_rows",
            "some training rows are gone: drawing with replacement leaves out a third of "
            "them by chance. Keep every row, then add copies",
            *(DRAWN, "generator.choice(group, size)"),
        ),
        fault(
            "not_balanced",
            "not every class is as frequent as the commonest: whole repetitions stop short "
            "when the sizes do not divide. Go round the rows of a class until there are enough",
            *(DRAWN, "np.repeat(group, size // len(group))"),
        ),
        fault(
            "uneven",
            "within a class some rows occur much more often than others: go round all of them "
            "before any comes again",
            *(DRAWN, "np.append(group, np.full(size - len(group), group[0]))"),
        ),
    ),
)


# --- a threshold, chosen on validation --------------------------------------------------------


def threshold_cases(generator: np.random.Generator) -> list[Case]:
    """Noisy probabilities of a rare class; and one case with a tie."""
    cases = []
    for rows in (80, 120, 160, 200):
        inputs: dict[str, Plain] = {}
        for part in ("validation", "test"):
            labels = np.zeros(rows, dtype=int)
            labels[: rows // 10] = 1
            labels = generator.permutation(labels)
            logits = generator.normal(-2.2, 1.0, rows) + 1.1 * labels
            inputs[f"{part}_labels"] = labels
            inputs[f"{part}_p"] = np.round(sigmoid(logits), 3)
        cases.append(Case(f"{rows} rows in each part", inputs))
    low, high = np.round(np.sort(generator.uniform(0.1, 0.9, 2)) + np.array([0, 0.05]), 3)
    tie = {
        "validation_labels": np.array([1, 0, 1, 0, 0, 0, 0, 0]),
        "validation_p": np.array(
            [high, (low + high) / 2, low, low, *(low * np.array([2, 3, 4, 5]) / 6)]
        ),
        "test_labels": np.array([1, 0, 1, 0]),
        "test_p": np.array([high, low, (low + high) / 2, low / 2]),
    }
    return [*cases, Case("two thresholds are equally good", tie)]


def f1_at(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return F1 of the flagged rows."""
    return float(2 * (labels * flags).sum() / max(labels.sum() + flags.sum(), 1))


def youden_at(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return by how much more often rare rows are flagged than common ones."""
    return float(flags[labels == 1].mean() - flags[labels == 0].mean())


def choose_threshold(
    validation_labels: np.ndarray,
    validation_p: np.ndarray,
    test_labels: np.ndarray,
    test_p: np.ndarray,
) -> tuple[float, float]:
    """Return the smallest of the best thresholds on validation, and F1 of the test rows there."""
    candidates = np.unique(validation_p)
    scores = np.array([f1_at(validation_labels, validation_p >= t) for t in candidates])
    best = candidates[scores >= scores.max() - 1e-12]
    threshold = float(best[0])
    return threshold, f1_at(test_labels, test_p >= threshold)


CANDIDATES = "np.unique(validation_p)"
ON_VALIDATION, ON_TEST = "f1_at(validation_labels, validation_p", "f1_at(test_labels, test_p"

THRESHOLD = Item(
    name="07.choose_threshold",
    title="A threshold, chosen where it may be chosen",
    **Rating(difficulty=2, importance=5, minutes=15, points=2),
    cases=threshold_cases,
    reference=choose_threshold,
    withheld=("course_utils.thresholds.threshold_table", "course_utils.thresholds.cost_threshold"),
    diagnoses=(
        Mistake(
            "chosen_on_test",
            "the threshold was chosen on the test rows: it fits their accidents, and the F1 you "
            "report is too high",
            edit(choose_threshold, CANDIDATES, "np.unique(test_p)", ON_VALIDATION, ON_TEST),
        ),
        Mistake(
            "reported_on_validation",
            "the threshold is right, but the F1 is that of the rows it was chosen on: report the "
            "test rows",
            edit(choose_threshold, ON_TEST, ON_VALIDATION),
        ),
        Mistake(
            "one_half",
            "the threshold is one half whatever the data say: try every probability that occurs",
            edit(choose_threshold, CANDIDATES, "np.array([0.5])"),
        ),
        Mistake(
            "strict",
            "a row whose probability equals the threshold is flagged too: >=, not >",
            edit(choose_threshold, ">= t)", "> t)", ">= threshold", "> threshold"),
        ),
        Mistake(
            "accuracy",
            "this threshold maximises accuracy, which for a rare class means flagging hardly "
            "anything: maximise F1",
            edit(
                choose_threshold,
                f"{ON_VALIDATION} >= t)",
                "np.mean(validation_labels == (validation_p >= t))",
            ),
        ),
        Mistake(
            "youden",
            "this threshold maximises recall minus the share of common rows flagged (Youden's J), "
            "which minds false alarms too little when common rows are many: maximise F1",
            edit(choose_threshold, "f1_at(validation", "youden_at(validation"),
        ),
        Mistake(
            "largest",
            "of several equally good thresholds the smallest is asked for; you took the largest",
            edit(choose_threshold, "best[0]", "best[-1]"),
        ),
        Mistake(
            "coarse_grid",
            "a grid of tenths steps over the best threshold: try every probability that occurs "
            "in the validation part",
            edit(choose_threshold, CANDIDATES, "np.arange(1, 10) / 10"),
        ),
    ),
)


# --- the way back to probabilities ------------------------------------------------------------


def prior_cases(generator: np.random.Generator) -> list[Case]:
    """Balanced training, mild imbalance, the rare class made commoner still, and certainty."""
    shares = (
        (0.5, round(float(generator.uniform(0.02, 0.15)), 3)),
        (round(float(generator.uniform(0.2, 0.4)), 3), 0.08),
        (0.1, round(float(generator.uniform(0.3, 0.6)), 3)),
    )
    cases = []
    for trained, real in shares:
        p = np.round(generator.uniform(0.02, 0.98, 6), 4)
        inputs = {"probabilities": p, "share_trained": trained, "share_real": real}
        cases.append(Case(f"trained with {trained:.3f} rare, really {real:.3f}", inputs))
    p = np.array([0.0, round(float(generator.uniform(0.2, 0.8)), 3), 1.0])
    inputs = {"probabilities": p, "share_trained": 0.5, "share_real": 0.05}
    return [*cases, Case("probabilities of exactly 0 and 1", inputs)]


def correct_prior(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    """Weigh each class by how much commoner it is in reality, then divide by the sum."""
    rare = probabilities * share_real / share_trained
    common = (1 - probabilities) * (1 - share_real) / (1 - share_trained)
    return rare / (rare + common)


START, SHARE = "    rare = ", "rare / (rare + common)"

PRIOR = Item(
    name="07.correct_prior",
    title="The way back to probabilities",
    **Rating(difficulty=3, importance=4, minutes=15, points=2),
    cases=prior_cases,
    reference=correct_prior,
    withheld=("course_utils.thresholds.undo_weight",),
    diagnoses=(
        Mistake(
            "swapped",
            "the two shares are exchanged: a class that training showed too often must become "
            "less probable, not more",
            edit(
                correct_prior,
                START,
                f"    share_real, share_trained = share_trained, share_real\n{START}",
            ),
        ),
        Mistake(
            "not_divided",
            "the probabilities of the two classes no longer add up to 1: weigh both classes, then "
            "divide by the sum",
            edit(correct_prior, SHARE, "rare"),
        ),
        Mistake(
            "rare_only",
            "the rare class is weighed by real share over training share, the common class not: "
            "its share changed too, from 1 - share_trained to 1 - share_real",
            edit(correct_prior, " * (1 - share_real) / (1 - share_trained)", ""),
        ),
        Mistake(
            "assumes_half",
            "right if training was balanced to one half, but `share_trained` may be anything",
            edit(correct_prior, START, f"    share_trained = 0.5\n{START}"),
        ),
        Mistake(
            "odds",
            "these are odds, not probabilities: with odds o the probability is o / (1 + o)",
            edit(correct_prior, SHARE, "rare / common"),
        ),
        Mistake(
            "unstable",
            "right, except that a probability of 1 becomes nan: its odds are infinite. Weigh p and "
            "1 - p instead of dividing one by the other",
            edit(correct_prior, SHARE, "(rare / common) / (1 + rare / common)"),
        ),
        Mistake(
            "shifted",
            "the difference of the shares is subtracted, but probabilities do not shift: odds "
            "are multiplied",
            edit(correct_prior, SHARE, "np.clip(probabilities - share_trained + share_real, 0, 1)"),
        ),
    ),
)


# --- bug hunt: a report that is too good ------------------------------------------------------


def report_cases(generator: np.random.Generator) -> list[Case]:
    """Features that say a little about a rare class."""
    cases = []
    for N, F in ((60, 3), (84, 5), (120, 8)):
        labels = np.zeros(N, dtype=int)
        labels[: N // 6] = 1
        labels = generator.permutation(labels)
        features = generator.normal(0, 2, (N, F)) + generator.normal(0, 3, F)
        features[:, 0] += 1.5 * labels
        # every fourth row is judged: the rare ones must lie on both sides
        rare, common = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        asked = np.concatenate([rare[::4], common])[: N // 4]
        learned = generator.permutation(np.setdiff1d(np.arange(N), asked))
        order = np.empty(N, dtype=int)
        order[::4] = generator.permutation(asked)
        order[np.arange(N) % 4 != 0] = learned
        inputs = {"features": features, "labels": labels, "order": order}
        cases.append(Case(f"{N} rows, {F} features", inputs))
    return cases


def repeated(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rows, the rare ones so often that both classes are about equally frequent."""
    rare = rows[labels[rows] == 1]
    times = (len(rows) - len(rare)) // len(rare)
    return np.concatenate([rows, np.tile(rare, times - 1)])


def report(
    features: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return every fourth row, and a model's probabilities for it that was fitted to the others."""
    from sklearn.linear_model import LogisticRegression

    test, train = order[::4], np.delete(order, np.s_[::4])
    seen = features[train]
    x = (features - seen.mean(axis=0)) / seen.std(axis=0)
    train = repeated(train, labels)
    model = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000)
    model.fit(x[train], labels[train])
    return test, model.predict_proba(x[test])[:, 1]


REPORT = Item(
    name="07.report",
    title="Bug hunt: a report too good to be true",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=report_cases,
    reference=report,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=(
        *remaining(
            report,
            {
                "leaks": (
                    "rare rows are repeated before the split, so copies of one row lie on both "
                    "sides: split first, then repeat rows of the training part",
                    *("    test, train", "    order = repeated(order, labels)\n    test, train"),
                    *("repeated(train, labels)", "train"),
                ),
                "peeks": (
                    "mean and deviation are taken over all rows, those to be judged included: "
                    "take them from the training rows",
                    *("features[train]", "features"),
                ),
                "twice": (
                    "the imbalance is corrected twice, by repeated rows and by class weights: one "
                    "of them",
                    *("C=0.1", "C=0.1, class_weight={1: sum(labels == 0) // sum(labels == 1)}"),
                ),
            },
        ),
        Mistake(
            "statistics_of_copies",
            "nearly right: mean and deviation are taken after rare rows were repeated, which pulls "
            "them towards the rare class. Take them from the training rows, each counted once",
            edit(report, "features[train]", "features[repeated(train, labels)]"),
        ),
    ),
)

ITEMS = (WEIGHTS, FOCAL, FOLD, THRESHOLD, PRIOR, REPORT)
