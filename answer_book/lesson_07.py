"""Items of lesson 07: weights, focal loss, sampling, thresholds, priors; and a broken report."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from answer_book.lesson_01 import sigmoid
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Symptom
from course_utils.grading.rules import lesson_07 as rules
from course_utils.grading.wire import Plain

# --- class weights ----------------------------------------------------------------------------


def weight_cases(generator: np.random.Generator) -> list[Case]:
    """Two, three and four classes of unequal size, and a class without rows."""
    counts = [
        ("1 rare row in 12", [55, 5]),
        ("three classes", [int(n) for n in generator.integers(3, 20, 3)]),
        ("four classes", [int(n) for n in generator.integers(1, 30, 4)]),
        ("the last class has no rows", [*(int(n) for n in generator.integers(2, 9, 2)), 0]),
    ]
    return [
        Case(
            name,
            {
                "labels": generator.permutation(np.repeat(np.arange(len(sizes)), sizes)),
                "num_classes": len(sizes),
            },
        )
        for name, sizes in counts
    ]


def weights_unguarded(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return len(labels) / (num_classes * np.bincount(labels, minlength=num_classes))


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return N / (C n_c), and refuse a class without rows."""
    if (np.bincount(labels, minlength=num_classes) == 0).any():
        raise ValueError("each class needs rows")
    return weights_unguarded(labels, num_classes)


def weights_without_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return len(labels) / np.bincount(labels, minlength=num_classes)


def weights_inverse(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return 1 / np.bincount(labels, minlength=num_classes)


def weights_sum_to_one(labels: np.ndarray, num_classes: int) -> np.ndarray:
    weights = 1 / np.bincount(labels, minlength=num_classes)
    return weights / weights.sum()


def weights_commonest_one(labels: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.bincount(labels, minlength=num_classes)
    return counts.max() / counts


def weights_frequency(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(labels, minlength=num_classes) / len(labels)


WEIGHTS = Item(
    name="07.class_weights",
    title="Weights that let every class count the same",
    difficulty=1,
    importance=5,
    minutes=10,
    points=2,
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
            weights_unguarded,
            ordinary=True,
        ),
        Mistake(
            "missing_classes",
            "too large by a factor of C: each class is to get N / C of the total weight, not N",
            weights_without_classes,
            ordinary=True,
        ),
        Mistake(
            "not_normalised",
            "the ratios are right, but one over the count makes every weight tiny: the average "
            "over the rows must be 1, or the weights also act as a smaller learning rate",
            weights_inverse,
            ordinary=True,
        ),
        Mistake(
            "sum_to_one",
            "the ratios are right, but these weights sum to 1 over the classes; their average over "
            "the rows is to be 1",
            weights_sum_to_one,
            ordinary=True,
        ),
        Mistake(
            "commonest_one",
            "the ratios are right, but here the commonest class has weight 1, so the average over "
            "the rows is above 1: that acts as a larger learning rate",
            weights_commonest_one,
            ordinary=True,
        ),
        Mistake(
            "upside_down",
            "these are the shares of the classes: the common one counts most. Rare is to be heavy",
            weights_frequency,
            ordinary=True,
        ),
    ),
)


# --- the gradient of the focal loss -----------------------------------------------------------


def focal_cases(generator: np.random.Generator) -> list[Case]:
    """Several gammas, cross-entropy among them, and logits that overflow an exponential."""
    cases = [
        Case(
            f"{B} rows, gamma {gamma:g}",
            {
                "logits": generator.normal(0, 2, B),
                "labels": generator.integers(0, 2, B).astype(float),
                "gamma": gamma,
            },
        )
        for B, gamma in ((6, 2.0), (5, 0.0), (9, 0.5), (4, 3.0))
    ]
    large = np.array([850.0, -850.0, 800.0, -800.0]) + generator.normal(0, 5, 4)
    labels = np.array([1.0, 1.0, 0.0, 0.0])
    return [
        *cases,
        Case("logits near 800 and -800", {"logits": large, "labels": labels, "gamma": 2.0}),
    ]


def focal_terms(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the sign, p, 1 - p and log p of each row's true class, without overflow."""
    sign = 2 * labels - 1
    return sign, sigmoid(sign * logits), sigmoid(-sign * logits), -np.logaddexp(0, -sign * logits)


def focal_gradient(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    """Return s (gamma p (1 - p)^gamma log p - (1 - p)^(gamma + 1)) / B."""
    sign, p, q, log_p = focal_terms(logits, labels)
    return sign * (gamma * p * q**gamma * log_p - q ** (gamma + 1)) / len(logits)


def focal_sum(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    return focal_gradient(logits, labels, gamma) * len(logits)


def focal_uphill(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    return -focal_gradient(logits, labels, gamma)


def focal_constant_factor(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    sign, _, q, _ = focal_terms(logits, labels)
    return -sign * q ** (gamma + 1) / len(logits)


def focal_positive_only(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    return focal_gradient(logits, np.ones_like(labels), gamma)


def focal_unsigned(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    return (2 * labels - 1) * focal_gradient(logits, labels, gamma)


def focal_plain(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    return (sigmoid(logits) - labels) / len(logits)


def focal_second_term_sign(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    sign, p, q, log_p = focal_terms(logits, labels)
    return sign * (-gamma * p * q**gamma * log_p - q ** (gamma + 1)) / len(logits)


def focal_unstable(logits: np.ndarray, labels: np.ndarray, gamma: float) -> np.ndarray:
    sign = 2 * labels - 1
    p = 1 / (1 + np.exp(-sign * logits))
    return sign * (gamma * p * (1 - p) ** gamma * np.log(p) - (1 - p) ** (gamma + 1)) / len(logits)


FOCAL = Item(
    name="07.focal_gradient",
    title="The gradient of the focal loss",
    difficulty=3,
    importance=3,
    minutes=20,
    points=3,
    cases=focal_cases,
    reference=focal_gradient,
    withheld=("course_utils.imbalance.focal_loss",),
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            focal_sum,
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            focal_uphill,
        ),
        Mistake(
            "factor_constant",
            "(1 - p)^gamma is treated as a constant, but p depends on the logit there too: "
            "the product rule gives a second term",
            focal_constant_factor,
        ),
        Mistake(
            "positive_only",
            "p is the probability of class 1 in every row: it must be that of the row's true class",
            focal_positive_only,
        ),
        Mistake(
            "unsigned",
            "right for label 1, wrong sign for label 0: there the true class gains when the logit "
            "falls",
            focal_unsigned,
        ),
        Mistake(
            "gamma_ignored",
            "this is the gradient of the cross-entropy: gamma does not occur in it",
            focal_plain,
        ),
        Mistake(
            "one_term_sign",
            "one of the two terms has the wrong sign: the derivative of (1 - p)^gamma by p is "
            "negative, and log p is negative too",
            focal_second_term_sign,
        ),
        Symptom(
            "unstable",
            "right for small logits, nan for large ones: compute log p from the logit as "
            "-logaddexp(0, -z), not as the logarithm of a p that may be 0",
            rules.right_but_for_large,
            focal_unstable,
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
        fold = [
            row
            for of_class in range(len(sizes))
            for row in generator.permutation(np.flatnonzero(labels == of_class))[
                : round(share * sizes[of_class])
            ]
        ]
        train = generator.permutation(np.array(fold))
        seed = int(generator.integers(1000))
        cases.append(Case(name, {"labels": labels, "train": train, "seed": seed}))
    return cases


def _oversample(labels: np.ndarray, rows: np.ndarray, seed: int, how: str = "") -> np.ndarray:
    """Return rows of equally frequent classes, each row as often as any other of its class."""
    generator = np.random.default_rng(seed)
    groups = [rows[labels[rows] == name] for name in np.unique(labels[rows])]
    sizes = [len(group) for group in groups]
    size = min(sizes) if how == "under" else max(sizes)
    drawn = []
    for group in groups:
        if how == "replace":
            drawn.append(generator.choice(group, size))
        elif how == "uneven":
            drawn.append(np.append(group, np.full(size - len(group), group[0])))
        elif how == "double":
            drawn.append(np.repeat(group, size // len(group)))
        else:
            drawn.append(np.resize(generator.permutation(group), size))
    return np.concatenate(drawn)


def oversample_fold(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Repeat rows of the rare classes among the training rows."""
    return _oversample(labels, train, seed)


def fold_everything(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels, np.arange(len(labels)), seed)


def fold_positions(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels[train], np.arange(len(train)), seed)


def fold_under(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels, train, seed, "under")


def fold_replace(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels, train, seed, "replace")


def fold_uneven(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels, train, seed, "uneven")


def fold_double(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return _oversample(labels, train, seed, "double")


def fold_unchanged(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    return train.copy()


FOLD = Item(
    name="07.oversample_fold",
    title="Over-sampling, inside the training fold only",
    difficulty=2,
    importance=5,
    minutes=15,
    points=2,
    cases=fold_cases,
    reference=oversample_fold,
    agree=rules.fold_agrees,
    withheld=("course_utils.imbalance.oversample",),
    diagnoses=tuple(
        Symptom(name, message, partial(rules.first_fault, name), variant)
        for name, message, variant in (
            (
                "leak",
                "rows that are not in the training fold were drawn: the model would learn from the "
                "rows it is judged on. Draw from `train` alone",
                fold_everything,
            ),
            (
                "positions",
                "these are positions within `train`, not row numbers of the data: index `train` "
                "with them once more",
                fold_positions,
            ),
            (
                "undersampled",
                "every class was cut down to the rarest: that is under-sampling. Over-sampling "
                "repeats rare rows and leaves nothing out",
                fold_under,
            ),
            (
                "unchanged",
                "the classes are still as unequal as they were: nothing was repeated",
                fold_unchanged,
            ),
            (
                "lost_rows",
                "some training rows are gone: drawing with replacement leaves out a third of "
                "them by chance. Keep every row, then add copies",
                fold_replace,
            ),
            (
                "not_balanced",
                "not every class is as frequent as the commonest: whole repetitions stop short "
                "when the sizes do not divide. Go round the rows of a class until there are enough",
                fold_double,
            ),
            (
                "uneven",
                "within a class some rows occur much more often than others: go round all of them "
                "before any comes again",
                fold_uneven,
            ),
        )
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


def accuracy_at(labels: np.ndarray, flags: np.ndarray) -> float:
    return float((labels == flags).mean())


def youden_at(labels: np.ndarray, flags: np.ndarray) -> float:
    return float(flags[labels == 1].mean() - flags[labels == 0].mean())


def _threshold(
    judged: Callable[[np.ndarray, np.ndarray], float] = f1_at,
    on: str = "validation",
    report: str = "test",
    strict: bool = False,
    largest: bool = False,
    grid: np.ndarray | None = None,
) -> Any:
    """Return an answer to the exercise with some things done otherwise."""

    def choose(
        validation_labels: np.ndarray,
        validation_p: np.ndarray,
        test_labels: np.ndarray,
        test_p: np.ndarray,
    ) -> tuple[float, float]:
        parts = {"validation": (validation_labels, validation_p), "test": (test_labels, test_p)}

        def flags(p: np.ndarray, threshold: float) -> np.ndarray:
            return p > threshold if strict else p >= threshold

        labels, p = parts[on]
        candidates = np.unique(p) if grid is None else grid
        scores = np.array([judged(labels, flags(p, t)) for t in candidates])
        best = np.flatnonzero(scores >= scores.max() - 1e-12)
        threshold = float(candidates[best[-1 if largest else 0]])
        labels, p = parts[report]
        return threshold, f1_at(labels, flags(p, threshold))

    return choose


THRESHOLD = Item(
    name="07.choose_threshold",
    title="A threshold, chosen where it may be chosen",
    difficulty=2,
    importance=5,
    minutes=15,
    points=2,
    cases=threshold_cases,
    reference=_threshold(),
    withheld=("course_utils.thresholds.threshold_table", "course_utils.thresholds.cost_threshold"),
    diagnoses=(
        Mistake(
            "chosen_on_test",
            "the threshold was chosen on the test rows: it fits their accidents, and the F1 you "
            "report is too high",
            _threshold(on="test"),
        ),
        Mistake(
            "reported_on_validation",
            "the threshold is right, but the F1 is that of the rows it was chosen on: report the "
            "test rows",
            _threshold(report="validation"),
        ),
        Mistake(
            "one_half",
            "the threshold is one half whatever the data say: try every probability that occurs",
            _threshold(grid=np.array([0.5])),
        ),
        Mistake(
            "strict",
            "a row whose probability equals the threshold is flagged too: >=, not >",
            _threshold(strict=True),
        ),
        Mistake(
            "accuracy",
            "this threshold maximises accuracy, which for a rare class means flagging hardly "
            "anything: maximise F1",
            _threshold(accuracy_at),
        ),
        Mistake(
            "youden",
            "this threshold maximises recall minus the share of common rows flagged (Youden's J), "
            "which minds false alarms too little when common rows are many: maximise F1",
            _threshold(youden_at),
        ),
        Mistake(
            "largest",
            "of several equally good thresholds the smallest is asked for; you took the largest",
            _threshold(largest=True),
        ),
        Mistake(
            "coarse_grid",
            "a grid of tenths steps over the best threshold: try every probability that occurs "
            "in the validation part",
            _threshold(grid=np.arange(1, 10) / 10),
        ),
    ),
)


# --- the way back to probabilities ------------------------------------------------------------


def prior_cases(generator: np.random.Generator) -> list[Case]:
    """Balanced training, mild imbalance, the rare class made commoner still, and certainty."""
    cases = [
        Case(
            f"trained with {trained:.3f} rare, really {real:.3f}",
            {
                "probabilities": np.round(generator.uniform(0.02, 0.98, 6), 4),
                "share_trained": trained,
                "share_real": real,
            },
        )
        for trained, real in (
            (0.5, round(float(generator.uniform(0.02, 0.15)), 3)),
            (round(float(generator.uniform(0.2, 0.4)), 3), 0.08),
            (0.1, round(float(generator.uniform(0.3, 0.6)), 3)),
        )
    ]
    sure = {
        "probabilities": np.array([0.0, round(float(generator.uniform(0.2, 0.8)), 3), 1.0]),
        "share_trained": 0.5,
        "share_real": 0.05,
    }
    return [*cases, Case("probabilities of exactly 0 and 1", sure)]


def correct_prior(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    """Weigh each class by how much commoner it is in reality, then divide by the sum."""
    rare = probabilities * share_real / share_trained
    common = (1 - probabilities) * (1 - share_real) / (1 - share_trained)
    return rare / (rare + common)


def prior_swapped(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    return correct_prior(probabilities, share_real, share_trained)


def prior_scaled(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    return probabilities * share_real / share_trained


def prior_rare_only(
    probabilities: np.ndarray, share_trained: float, share_real: float
) -> np.ndarray:
    rare = probabilities * share_real / share_trained
    return rare / (rare + 1 - probabilities)


def prior_assumes_half(
    probabilities: np.ndarray, share_trained: float, share_real: float
) -> np.ndarray:
    return correct_prior(probabilities, 0.5, share_real)


def prior_odds(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    real, trained = share_real / (1 - share_real), share_trained / (1 - share_trained)
    return probabilities / (1 - probabilities) * real / trained


def prior_unstable(
    probabilities: np.ndarray, share_trained: float, share_real: float
) -> np.ndarray:
    odds = prior_odds(probabilities, share_trained, share_real)
    return odds / (1 + odds)


def prior_shifted(probabilities: np.ndarray, share_trained: float, share_real: float) -> np.ndarray:
    return np.clip(probabilities - share_trained + share_real, 0, 1)


PRIOR = Item(
    name="07.correct_prior",
    title="The way back to probabilities",
    difficulty=3,
    importance=4,
    minutes=15,
    points=2,
    cases=prior_cases,
    reference=correct_prior,
    withheld=("course_utils.thresholds.undo_weight",),
    diagnoses=(
        Mistake(
            "swapped",
            "the two shares are exchanged: a class that training showed too often must become "
            "less probable, not more",
            prior_swapped,
        ),
        Mistake(
            "not_divided",
            "the probabilities of the two classes no longer add up to 1: weigh both classes, then "
            "divide by the sum",
            prior_scaled,
        ),
        Mistake(
            "rare_only",
            "the rare class is weighed by real share over training share, the common class not: "
            "its share changed too, from 1 - share_trained to 1 - share_real",
            prior_rare_only,
        ),
        Mistake(
            "assumes_half",
            "right if training was balanced to one half, but `share_trained` may be anything",
            prior_assumes_half,
        ),
        Mistake(
            "odds",
            "these are odds, not probabilities: with odds o the probability is o / (1 + o)",
            prior_odds,
        ),
        Mistake(
            "unstable",
            "right, except that a probability of 1 becomes nan: its odds are infinite. Weigh p and "
            "1 - p instead of dividing one by the other",
            prior_unstable,
        ),
        Mistake(
            "shifted",
            "the difference of the shares is subtracted, but probabilities do not shift: odds "
            "are multiplied",
            prior_shifted,
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
        cases.append(
            Case(
                f"{N} rows, {F} features", {"features": features, "labels": labels, "order": order}
            )
        )
    return cases


def _report(
    leaks: bool = False, peeks: bool = False, twice: bool = False, late: bool = False
) -> Any:
    """Return the report with some of its three bugs, or with statistics of repeated rows."""

    def report(
        features: np.ndarray, labels: np.ndarray, order: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import LogisticRegression

        def repeated(rows: np.ndarray) -> tuple[np.ndarray, int]:
            rare = rows[labels[rows] == 1]
            times = (len(rows) - len(rare)) // len(rare)
            return np.concatenate([rows, np.tile(rare, times - 1)]), times

        rows, times = repeated(order) if leaks else (order, 0)
        test, train = rows[::4], np.delete(rows, np.s_[::4])
        seen = features if peeks else features[train]
        if not leaks:
            train, times = repeated(train)
        seen = features[train] if late else seen
        x = (features - seen.mean(axis=0)) / seen.std(axis=0)
        weight = {0: 1, 1: times if twice else 1}
        model = LogisticRegression(C=0.1, class_weight=weight, tol=1e-8, max_iter=1000)
        model.fit(x[train], labels[train])
        return test, model.predict_proba(x[test])[:, 1]

    return report


REMAINING = {
    "leaks": "rare rows are repeated before the split, so copies of one row lie on both sides: "
    "split first, then repeat rows of the training part",
    "peeks": "mean and deviation are taken over all rows, those to be judged included: "
    "take them from the training rows",
    "twice": "the imbalance is corrected twice, by repeated rows and by class weights: one of them",
}

REPORT = Item(
    name="07.report",
    title="Bug hunt: a report too good to be true",
    difficulty=3,
    importance=5,
    minutes=20,
    points=4,
    cases=report_cases,
    reference=_report(),
    rtol=1e-4,
    atol=1e-5,
    diagnoses=(
        *flagged(_report, REMAINING),
        Mistake(
            "statistics_of_copies",
            "nearly right: mean and deviation are taken after rare rows were repeated, which pulls "
            "them towards the rare class. Take them from the training rows, each counted once",
            _report(late=True),
        ),
    ),
)

ITEMS = (WEIGHTS, FOCAL, FOLD, THRESHOLD, PRIOR, REPORT)
