"""Items of lesson 17: usable rows, a paired interval, rows to buy, handing over, a good report."""

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.own_data.cleaning import key_of

# --- usable rows ------------------------------------------------------------------------------

WORDS = ("fine", "dull", "a warm film", "not for me", "too long", "well made", "Émile, again")


def written(text: str, generator: np.random.Generator) -> str:
    """Return a text as another person might type it: case and marks differ, words do not."""
    typed = (text.upper(), text.title(), text.capitalize(), text)[generator.integers(4)]
    return (
        typed.replace(" ", ("  ", ", ", " ")[generator.integers(3)])
        + ("!", ".", "", " ...")[generator.integers(4)]
    )


def usable_cases(generator: np.random.Generator) -> list[Case]:
    """Tables with copies, contradictions, empty cells, and texts of marks alone."""
    cases = []
    for rows in (12, 25, 60):
        drawn = generator.integers(len(WORDS) if rows > 12 else 3, size=rows)
        texts = [written(WORDS[n], generator) for n in drawn]
        own = ("good", "bad")
        labels = [own[n % 2] if n < 4 else own[generator.integers(2)] for n in drawn]
        for row in generator.permutation(rows)[: rows // 6]:
            labels[row] = ""
        for row in generator.permutation(rows)[: rows // 8]:
            texts[row] = ""
        cases.append(Case(f"{rows} rows of few texts", {"texts": texts, "labels": labels}))
    marks = {
        "texts": ["?!", "...", "?!", "fine", " "],
        "labels": ["bad", "good", "bad", "good", ""],
    }
    forgotten = {"texts": ["Fine", "fine", "fine."], "labels": ["", "good", "good"]}
    voted = {"texts": ["dull", "Dull", "dull!", "fine"], "labels": ["good", "bad", "bad", "good"]}
    nothing = {"texts": ["dull", "Dull"], "labels": ["bad", "good"]}
    return [
        *cases,
        Case("texts of marks alone", marks),
        Case("a forgotten label on the first copy", forgotten),
        Case("two against one", voted),
        Case("nothing is left", nothing),
    ]


def usable(texts: list[str], labels: list[str]) -> list[int]:
    """Return the numbers of the rows that can be used, in their order."""
    copies: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if text.strip() and labels[row]:
            copies.setdefault(key_of(text), []).append(row)
    return [same[0] for same in copies.values() if len({labels[row] for row in same}) == 1]


USABLE = Item(
    name="17.usable",
    title="Copies and contradictions",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=usable_cases,
    reference=usable,
    withheld=("course_utils.own_data.cleaning.usable_rows",),
    diagnoses=(
        Mistake(
            "first_wins",
            "of a text with two labels the first is kept: nobody has said that it is the right "
            "one. Keep neither",
            edit(
                usable,
                *(
                    "[same[0] for same in copies.values() if",
                    "[same[0] for same in copies.values()]",
                ),
                *(" len({labels[row] for row in same}) == 1]", ""),
            ),
        ),
        Mistake(
            "vote",
            "of a text with two labels the more frequent one wins: two hasty readers against a "
            "careful one are no proof. Keep none of its rows",
            edit(
                usable,
                *("[same[0] for same in copies.values() if", "[min(same, key=lambda row: -sum("),
                *(
                    " len({labels[row] for row in same}) == 1]",
                    "labels[row] == labels[other] for other in same)) for same in copies.values()]",
                ),
            ),
        ),
        Mistake(
            "to_the_letter",
            "only texts that are equal to the letter count as copies: `key_of` says what two "
            "copies have in common",
            edit(usable, "key_of(text)", "text"),
        ),
        Mistake(
            "all_copies",
            "every copy is kept, where the labels agree: each text is used once, or training and "
            "test may share it",
            lambda texts, labels: sorted(
                row
                for row, text in enumerate(texts)
                if text.strip()
                and labels[row]
                and len(
                    {
                        labels[other]
                        for other, again in enumerate(texts)
                        if labels[other] and key_of(again) == key_of(text)
                    }
                )
                == 1
            ),
        ),
        Mistake(
            "no_copy",
            "a text that stands there more than once is dropped altogether: where the labels "
            "agree, its first row can be used",
            edit(usable, "len({labels[row] for row in same}) == 1", "len(same) == 1"),
        ),
        Mistake(
            "empty_contradicts",
            "a forgotten label is taken for a contradiction, or for a label: such a row is left "
            "out before the others are compared",
            edit(usable, "if text.strip() and labels[row]:", "if text.strip():"),
        ),
        Mistake(
            "last",
            "of copies that agree the last one is kept: keep the first",
            edit(usable, "same[0]", "same[-1]"),
        ),
    ),
)

# --- a difference with its interval -----------------------------------------------------------


def gain_cases(generator: np.random.Generator) -> list[Case]:
    """Two models on the same rows: alike, one far better, and one that knows nothing."""
    cases = []
    for rows, first, second in ((30, 0.9, 0.8), (50, 0.75, 0.75), (24, 0.95, 0.5), (40, 0.6, 0.7)):
        truth = generator.integers(0, 3, rows)
        said = [
            np.where(generator.random(rows) < right, truth, (truth + 1) % 3)
            for right in (first, second)
        ]
        draws = generator.integers(0, rows, (80, rows))
        inputs = {"truth": truth, "said": said[0], "other": said[1], "draws": draws}
        cases.append(Case(f"{rows} rows, right {first:.0%} and {second:.0%} of the time", inputs))
    return cases


def gain_interval(
    truth: np.ndarray, said: np.ndarray, other: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """Return the difference in accuracy, and the ends of its 95% interval."""
    better = (said == truth).astype(float) - (other == truth)
    low, high = np.percentile(better[draws].mean(axis=1), [2.5, 97.5])
    return np.array([better.mean(), low, high])


def apart(truth: np.ndarray, said: np.ndarray, other: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return what comes out if each model's interval is computed by itself."""
    ends = [
        np.percentile((each == truth)[draws].mean(axis=1), [2.5, 97.5]) for each in (said, other)
    ]
    value = (said == truth).mean() - (other == truth).mean()
    return np.array([value, ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]])


GAIN = Item(
    name="17.gain_interval",
    title="How sure is the difference?",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=gain_cases,
    reference=gain_interval,
    withheld=(
        "course_utils.own_data.decisions.gain",
        "course_utils.intervals.bootstrap_interval",
    ),
    diagnoses=(
        Mistake(
            "apart",
            "each model's interval was computed by itself, and the ends were subtracted: a hard "
            "row is hard for both, and that cancels only if both are drawn together",
            apart,
        ),
        Mistake(
            "unpaired",
            "the two models were judged on different draws: use the same rows for both",
            edit(
                gain_interval,
                *(
                    "better[draws].mean(axis=1)",
                    "(said == truth)[draws].mean(axis=1) - "
                    "(other == truth)[draws[::-1]].mean(axis=1)",
                ),
            ),
        ),
        Mistake(
            "sign",
            "the sign: positive means that `said` is better than `other`",
            edit(
                gain_interval,
                "(said == truth).astype(float) - (other == truth)",
                "(other == truth).astype(float) - (said == truth)",
            ),
        ),
        Mistake(
            "ninety",
            "these ends leave 5% out on each side: that is a 90% interval",
            edit(gain_interval, "[2.5, 97.5]", "[5, 95]"),
        ),
        Mistake(
            "mean_of_draws",
            "the first number is the mean over the draws: it is the difference on the rows "
            "themselves",
            edit(gain_interval, "[better.mean(), low, high]", "[better[draws].mean(), low, high]"),
        ),
        Mistake(
            "rows_resampled_once",
            "the percentiles are taken over rows, not over draws: take the mean of each draw first",
            edit(gain_interval, "better[draws].mean(axis=1)", "better[draws].mean(axis=0)"),
        ),
    ),
)

# --- what more labels would buy ---------------------------------------------------------------


def rows_cases(generator: np.random.Generator) -> list[Case]:
    """Falling curves, steep and flat, with noise; one that does not fall."""
    cases = []
    for points, power in ((3, 0.3), (4, 0.15), (5, 0.5), (3, 0.1)):
        rows = 50 * 2 ** np.arange(points)
        noise = generator.normal(0, 0.02, points)
        errors = 0.9 * rows ** (-power) * np.exp(noise)
        wanted = float(errors[-1] * generator.uniform(0.6, 0.9))
        inputs = {"rows": rows, "errors": errors, "wanted": wanted}
        cases.append(Case(f"{points} points, falling as the power {power:g}", inputs))
    rising = {"rows": np.array([50, 100, 200]), "errors": np.array([0.2, 0.21, 0.24])}
    return [*cases, Case("a curve that rises", {**rising, "wanted": 0.1})]


def rows_needed(rows: np.ndarray, errors: np.ndarray, wanted: float) -> float:
    """Return how many training rows a power law says are needed for an error."""
    slope, level = np.polyfit(np.log(rows), np.log(errors), 1)
    if slope >= 0:
        return float("inf")
    return float(np.exp((np.log(wanted) - level) / slope))


ROWS = Item(
    name="17.rows_needed",
    title="What would it cost?",
    **Rating(difficulty=3, importance=3, minutes=20, points=3),
    cases=rows_cases,
    reference=rows_needed,
    diagnoses=(
        Mistake(
            "straight",
            "a straight line through rows and errors: it promises an error below zero soon. Fit "
            "the line to the logarithms of both",
            edit(
                rows_needed,
                *("np.log(rows), np.log(errors)", "rows, errors"),
                *("np.exp((np.log(wanted) - level) / slope)", "(wanted - level) / slope"),
            ),
        ),
        Mistake(
            "rows_in_logs_only",
            "only the rows are taken as logarithms: take the errors so too",
            edit(
                rows_needed,
                *("np.log(errors)", "errors"),
                *("np.log(wanted)", "wanted"),
            ),
        ),
        Mistake(
            "last_two",
            "the line goes through the last two points only: each has its own chance in it. Fit "
            "it to all",
            edit(
                rows_needed,
                "np.log(rows), np.log(errors)",
                "np.log(rows[-2:]), np.log(errors[-2:])",
            ),
        ),
        Mistake(
            "logarithm",
            "this is the logarithm of the number of rows",
            edit(
                rows_needed,
                "np.exp((np.log(wanted) - level) / slope)",
                "((np.log(wanted) - level) / slope)",
            ),
        ),
        Mistake(
            "rising",
            "right, except for errors that do not fall: then no number of rows will do, and the "
            "answer is infinite",
            edit(rows_needed, "if slope >= 0:", "if False:"),
        ),
        Mistake(
            "more_rows",
            "this is how many rows are still missing: asked is how many are needed in all",
            edit(
                rows_needed,
                "float(np.exp((np.log(wanted) - level) / slope))",
                "float(np.exp((np.log(wanted) - level) / slope)) - float(rows[-1])",
            ),
        ),
    ),
)

# --- whom to hand over to ---------------------------------------------------------------------


def coverage_cases(generator: np.random.Generator) -> list[Case]:
    """Models that know when they are sure; one that does not; one that never does well enough."""
    cases = []
    for rows, wanted in ((40, 0.9), (120, 0.85), (75, 0.95), (60, 0.7)):
        sure = generator.permutation(np.linspace(0.5, 0.999, rows))
        right = (generator.random(rows) < sure).astype(int)
        inputs = {"sure": sure, "right": right, "wanted": wanted}
        cases.append(Case(f"{rows} rows, {wanted:.0%} wanted", inputs))
    early = {"sure": np.array([0.99, 0.9, 0.8, 0.7, 0.6]), "right": np.array([0, 1, 1, 1, 0])}
    never = {"sure": np.array([0.9, 0.8, 0.7]), "right": np.array([0, 1, 0])}
    always = {"sure": np.array([0.6, 0.9, 0.8]), "right": np.array([1, 1, 1])}
    return [
        *cases,
        Case("the surest one is wrong", {**early, "wanted": 0.75}),
        Case("never good enough", {**never, "wanted": 0.9}),
        Case("always right", {**always, "wanted": 0.9}),
    ]


def coverage(sure: np.ndarray, right: np.ndarray, wanted: float) -> float:
    """Return the largest share of texts that can be answered at the accuracy that is wanted."""
    order = np.argsort(-sure)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(sure) + 1)
    enough = np.flatnonzero(accuracy >= wanted)
    return float((enough[-1] + 1) / len(sure)) if len(enough) else 0.0


COVERAGE = Item(
    name="17.coverage",
    title="Which texts go to a person?",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=coverage_cases,
    reference=coverage,
    diagnoses=(
        Mistake(
            "least_sure",
            "the texts are taken in the wrong order: those of which the model is surest are "
            "answered first",
            edit(coverage, "np.argsort(-sure)", "np.argsort(sure)"),
        ),
        Mistake(
            "first_fall",
            "it stops where accuracy first falls below what is wanted: one early error, and "
            "nearly everything goes to a person. Later rows may make up for it: look for the last "
            "place that is good enough",
            edit(
                coverage,
                *(
                    "enough = np.flatnonzero(accuracy >= wanted)",
                    "enough = np.flatnonzero(np.cumprod(accuracy >= wanted))",
                ),
            ),
        ),
        Mistake(
            "first_place",
            "this is the smallest share that is good enough: asked is the largest",
            edit(coverage, "enough[-1]", "enough[0]"),
        ),
        Mistake(
            "off_by_one",
            "one text too few: the place in the order counts from 0",
            edit(coverage, "(enough[-1] + 1)", "enough[-1]"),
        ),
        Mistake(
            "handed_over",
            "this is the share that goes to a person: asked is the share that is answered",
            lambda sure, right, wanted: 1 - coverage(sure, right, wanted),
        ),
        Mistake(
            "above",
            "just as good as wanted is good enough: compare with >=",
            edit(coverage, "accuracy >= wanted", "accuracy > wanted"),
        ),
        Mistake(
            "threshold",
            "rows are answered where `sure` is at least what is wanted: that takes the model's "
            "word for it. Count how many of the surest were right",
            lambda sure, right, wanted: float((sure >= wanted).mean()),
        ),
    ),
)

# --- bug hunt: a report that was too good -----------------------------------------------------


def report_cases(generator: np.random.Generator) -> list[Case]:
    """People who write alike; labels that depend on the person, and a little on the text."""
    cases = []
    for rows, groups, width, seed in ((120, 20, 6, 1), (200, 24, 10, 2), (160, 40, 4, 3)):
        owners = generator.integers(0, groups, rows)
        labels = generator.integers(0, 2, groups)[owners]
        own = generator.normal(0, 1, (groups, width))[owners]
        texts = own + generator.normal(0, 0.7, (rows, width)) + 0.4 * labels[:, None]
        inputs = {
            "features": texts * generator.uniform(0.3, 3, width),
            "labels": labels,
            "groups": owners,
            "seed": seed,
        }
        cases.append(Case(f"{rows} texts by {groups} people", inputs))
    return cases


def honest_report(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[np.ndarray, float, float]:
    """Return which rows are tested, the threshold, and the accuracy on the test."""
    owners = groups
    names = np.random.default_rng(seed).permutation(np.unique(owners))
    ends = [len(names) // 2, 3 * len(names) // 4]
    train, validation, test = (np.isin(owners, part) for part in np.split(names, ends))
    known = features[train]
    scaled = (features - known.mean(axis=0)) / known.std(axis=0)
    means = [scaled[train & (labels == label)].mean(axis=0) for label in (0, 1)]
    scores = scaled @ (means[1] - means[0])
    judge = validation
    cuts = np.sort(scores[judge])
    right = [((scores[judge] >= cut) == labels[judge]).mean() for cut in cuts]
    best = cuts[int(np.argmax(right))]
    return test, float(best), float(((scores[test] >= best) == labels[test]).mean())


BUGS = {
    "rows_divided": (
        "rows are divided, not people: texts of one person stand in training and in the test, and "
        "the model has met nearly everybody. Divide the groups",
        *("owners = groups", "owners = np.arange(len(labels))"),
    ),
    "scaled_with_test": (
        "mean and spread are measured on all rows, the test's among them: measure them on the "
        "training rows",
        *("known = features[train]", "known = features"),
    ),
    "threshold_on_test": (
        "the threshold is chosen on the test rows: it must be chosen on validation, or the test "
        "only says how well it was adapted to itself",
        *("judge = validation", "judge = test"),
    ),
}

REPORT = Item(
    name="17.honest_report",
    title="Bug hunt: a report that was too good",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=report_cases,
    reference=honest_report,
    withheld=("course_utils.own_data.parts.OwnSplits",),
    diagnoses=(
        *remaining(honest_report, BUGS),
        Mistake(
            "judged_on_validation",
            "the accuracy that is returned is that of validation, which the threshold was chosen "
            "on: it flatters. Judge on the test rows",
            edit(
                honest_report,
                "((scores[test] >= best) == labels[test])",
                "((scores[validation] >= best) == labels[validation])",
            ),
        ),
    ),
)

ITEMS = (USABLE, GAIN, ROWS, COVERAGE, REPORT)
