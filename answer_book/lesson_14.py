"""Items of lesson 14: percentiles, a queue by hand, refusals, an alarm, mixed answers."""

import json
import math

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.calls import lesson_14 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

# --- percentiles ------------------------------------------------------------------------------


def percentile_cases(generator: np.random.Generator) -> list[Case]:
    """Return skewed times in no order; few of them, ties, one."""
    slow = (10 * generator.lognormal(0, 1, 40)).round(2).tolist()
    few = generator.permutation([11.0, 12.0, 14.0, 30.0]).tolist()
    lists = [
        ("40 times", slow),
        ("four times", few),
        ("ties", [5.0, 9.0, 5.0, 5.0]),
        ("one", [7.5]),
    ]
    return [
        Case(f"{name}, share {share}", {"times": times, "share": share})
        for name, times in lists
        for share in (0.5, 0.75, 0.95)
    ]


def percentile(times: list[float], share: float) -> float:
    """Return the time within which this share of the requests was answered."""
    ordered = sorted(times)
    return ordered[math.ceil(share * len(ordered)) - 1]


PERCENTILE = Item(
    name="14.percentile",
    title="The slowest in twenty",
    **Rating(difficulty=1, importance=4, minutes=8, points=2),
    cases=percentile_cases,
    reference=percentile,
    diagnoses=(
        Mistake(
            "unsorted",
            "the times are taken in the order in which they came: sort them first",
            edit(percentile, "sorted(times)", "list(times)"),
        ),
        Mistake(
            "one_too_far",
            "one too far: the answer of rank k stands at index k - 1",
            edit(
                percentile, ") - 1]", ") - 0 if share * len(ordered) <= len(ordered) - 1 else -1]"
            ),
        ),
        Mistake(
            "rounded_down",
            "the rank is rounded down, so that fewer than `share` of the requests were answered by "
            "then: round up",
            edit(
                percentile,
                "math.ceil(share * len(ordered)) - 1",
                "max(int(share * len(ordered)) - 1, 0)",
            ),
        ),
        Mistake(
            "from_the_top",
            "counted from the slowest: of the 95th percentile nineteen in twenty are faster",
            edit(percentile, "sorted(times)", "sorted(times, reverse=True)"),
        ),
        Mistake(
            "the_mean",
            "this is the mean: it hides exactly those who waited longest",
            lambda times, share: sum(times) / len(times),
        ),
        Mistake(
            "the_longest",
            "this is the longest time of all, whatever the share",
            lambda times, share: max(times),
        ),
        Mistake(
            "between",
            "this lies between two times that were measured (np.percentile does so): return one "
            "that somebody waited",
            lambda times, share: float(np.percentile(times, 100 * share)),
        ),
    ),
)

# --- a queue by hand --------------------------------------------------------------------------


def queue_cases(generator: np.random.Generator) -> list[Case]:
    """Return a quiet hour, rushes, one of them into a busy model, and all at once."""
    rush = generator.uniform(0, 0.05, 12)
    cases = []
    for name, arrivals, batch in (
        ("a quiet hour", np.cumsum(generator.uniform(1, 2, 5)), 4),
        ("a rush", rush, 4),
        ("one, then a rush", np.append(0.0, 0.15 + rush), 8),
        ("busy for an hour", np.cumsum(generator.uniform(0.01, 0.05, 20)), 3),
        ("all at once", np.full(7, 0.5), 3),
    ):
        inputs = {
            "arrivals": sorted(arrivals.tolist()),
            "batch": batch,
            "wait": 0.1,
            "seconds": 0.2,
        }
        cases.append(Case(f"{name}, batches of {batch}", inputs))
    return cases


def answer_times(arrivals: list[float], batch: int, wait: float, seconds: float) -> list[float]:
    """Return when each request is answered."""
    answered: list[float] = []
    free = 0.0
    while len(answered) < len(arrivals):
        waiting = arrivals[len(answered) :]
        closes = waiting[0] + wait
        if len(waiting) >= batch:
            closes = min(closes, waiting[batch - 1])
        closes = max(closes, free)
        count = sum(arrival <= closes for arrival in waiting[:batch])
        free = closes + seconds
        answered += [free] * count
    return answered


QUEUE = Item(
    name="14.answer_times",
    title="A queue by hand",
    **Rating(difficulty=3, importance=5, minutes=25, points=4),
    cases=queue_cases,
    reference=answer_times,
    withheld=("course_utils.widgets.queueing.answered",),
    diagnoses=(
        Mistake(
            "never_full",
            "a batch that is full still waits for the time to be over: it closes as soon as it has "
            "`batch` texts",
            edit(answer_times, "closes = min(closes, waiting[batch - 1])", "pass"),
        ),
        Mistake(
            "waits_again",
            "whoever came while the model was busy waits `wait` seconds once more when it is free: "
            "the time counts from the arrival",
            edit(
                answer_times, "closes = waiting[0] + wait", "closes = max(waiting[0], free) + wait"
            ),
        ),
        Mistake(
            "overfull",
            "a batch takes all that wait: `batch` at most",
            edit(answer_times, "waiting[:batch]", "waiting"),
        ),
        Mistake(
            "two_at_once",
            "a batch begins while the one before is still computed: there is one model",
            edit(answer_times, "closes = max(closes, free)", "pass"),
        ),
        Mistake(
            "each_text",
            "a batch takes `seconds` for each of its texts: it takes that long as a whole, which "
            "is what batching is for",
            edit(answer_times, "closes + seconds", "closes + seconds * count"),
        ),
        Mistake(
            "begun",
            "this is when the batch begins: the answers are there `seconds` later",
            edit(answer_times, "[free] * count", "[closes] * count"),
        ),
        Mistake(
            "durations",
            "this is how long each waited: return the time of the clock",
            lambda arrivals, *rest: [
                done - came
                for done, came in zip(answer_times(arrivals, *rest), arrivals, strict=True)
            ],
        ),
    ),
)

# --- refusals ---------------------------------------------------------------------------------


def body_cases(generator: np.random.Generator) -> list[Case]:
    """Return what clients send, good and bad, as the numbers of its bytes."""
    word = "".join(generator.choice(list("abcdefgh"), 6))
    bodies = {
        "one text": {"texts": [word]},
        "three texts": {"texts": [word] * 3},
        "four texts": {"texts": [word] * 4},
        "no text": {"texts": []},
        "a number among texts": {"texts": [word, 7]},
        "a blank text": {"texts": [word, " \n"]},
        "one text, not in a list": {"texts": word[:2]},
        "another field": {"texts": [word], "threshold": 0.5},
        "a misspelt field": {"text": [word]},
        "a list": [word],
        "too many bytes": {"texts": [word * 20]},
    }
    raw = {name: json.dumps(content).encode() for name, content in bodies.items()}
    raw |= {
        "accents in UTF-8": json.dumps({"texts": ["très " + word]}, ensure_ascii=False).encode(),
        "accents in Latin-1": ('{"texts": ["très ' + word + '"]}').encode("latin-1"),
        "UTF-16": ('{"texts": ["' + word + '"]}').encode("utf-16"),
        "half of it": ('{"texts": ["' + word).encode(),
        "nothing": b"",
    }
    return [
        Case(name, {"body": np.frombuffer(body, np.uint8), "most_bytes": 100, "most_texts": 3})
        for name, body in raw.items()
    ]


def status_of(body: bytes, most_bytes: int, most_texts: int) -> int:
    """Return the HTTP status that a request's body deserves."""
    if len(body) > most_bytes:
        return 413
    try:
        content = json.loads(body.decode("utf-8"))
    except ValueError:
        return 400
    if not isinstance(content, dict) or set(content) != {"texts"}:
        return 422
    texts = content["texts"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= most_texts:
        return 422
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return 422
    return 200


STATUS = Item(
    name="14.status_of",
    title="What a request deserves",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=body_cases,
    reference=status_of,
    call=calls.status_of,
    withheld=("course_utils.serving.messages.read_texts",),
    diagnoses=(
        Mistake(
            "guesses",
            "json.loads of bytes guesses the encoding and takes UTF-16: decode as UTF-8 first",
            edit(status_of, 'body.decode("utf-8")', "body"),
        ),
        Mistake(
            "replaces",
            "bytes that are no UTF-8 are replaced by question marks, and the model reads those: "
            "refuse them",
            edit(status_of, 'decode("utf-8")', 'decode("utf-8", errors="replace")'),
        ),
        Mistake(
            "any_size",
            "a body of any size is read: refuse it with 413 before anything else",
            edit(status_of, "return 413", "pass"),
        ),
        Mistake(
            "ignores_fields",
            "other fields are ignored: whoever sends `threshold` believes that it does something",
            edit(status_of, 'set(content) != {"texts"}', '"texts" not in content'),
        ),
        Mistake(
            "any_number",
            "there may be too many texts, or none",
            edit(status_of, " or not 1 <= len(texts) <= most_texts", ""),
        ),
        Mistake(
            "empty_list",
            "an empty list is taken: there is nothing to judge",
            edit(status_of, "1 <= len", "0 <= len"),
        ),
        Mistake(
            "blank",
            "a blank text is taken: there is nothing to judge",
            edit(status_of, " and text.strip()", ""),
        ),
        Mistake(
            "letters",
            "a text that is not in a list is taken for a list of its letters",
            edit(status_of, "isinstance(texts, list)", "isinstance(texts, list | str)"),
        ),
        Mistake(
            "one_kind",
            "JSON of another shape gets 400: that is for what is no JSON in UTF-8 at all. What "
            "can be read and makes no sense gets 422",
            lambda *inputs: 400 if (status := status_of(*inputs)) == 422 else status,
        ),
        Mistake(
            "our_fault",
            "a request that cannot be read gets 500, which says that it was our fault and may be "
            "repeated",
            edit(status_of, "return 400", "return 500"),
        ),
    ),
)

# --- an alarm ---------------------------------------------------------------------------------


def alarm_cases(generator: np.random.Generator) -> list[Case]:
    """Return samples that differ, that do not, with ties, and the same twice."""
    cases = []
    for name, first, second in (
        ("from two places", generator.normal(0, 1, 12), generator.normal(1.5, 1, 20)),
        ("from one place", generator.normal(0, 1, 15), generator.normal(0, 1, 10)),
        ("whole numbers", generator.integers(0, 6, 14), generator.integers(2, 9, 18)),
        ("wider", generator.normal(0, 1, 16), generator.normal(0, 4, 16)),
        ("the same", np.arange(6.0), np.arange(6.0)),
    ):
        size = len(first) + len(second)
        deals = np.stack([generator.permutation(size) for _ in range(39)])
        inputs = {"first": first.astype(float), "second": second.astype(float), "deals": deals}
        cases.append(Case(f"{name}, {len(first)} and {len(second)} values", inputs))
    return cases


def distance_of(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest distance between two distribution functions."""
    places = np.concatenate([first, second])
    up_to = [
        np.searchsorted(np.sort(part), places, side="right") / len(part) for part in (first, second)
    ]
    return float(np.abs(up_to[0] - up_to[1]).max())


def drift_test(first: np.ndarray, second: np.ndarray, deals: np.ndarray) -> tuple[float, float]:
    """Return the distance of two samples and the share of deals that reach it."""
    own = distance_of(first, second)
    pooled, n = np.concatenate([first, second]), len(first)
    dealt = [distance_of(pooled[deal[:n]], pooled[deal[n:]]) for deal in deals]
    reached = sum(distance >= own - 1e-9 for distance in dealt)
    return own, (1 + reached) / (1 + len(deals))


ALARM = Item(
    name="14.drift_test",
    title="How far is too far",
    **Rating(difficulty=3, importance=4, minutes=20, points=4),
    cases=alarm_cases,
    reference=drift_test,
    withheld=(
        "course_utils.monitoring.ks_distance",
        "scipy.stats.ks_2samp",
        "scipy.stats.permutation_test",
    ),
    diagnoses=(
        Mistake(
            "without_itself",
            "the samples as they came are one deal among the others: (1 + reached) / (1 + deals), "
            "or the share could be 0, which no number of deals can show",
            edit(drift_test, "(1 + reached) / (1 + len(deals))", "reached / len(deals)"),
        ),
        Mistake(
            "strictly",
            "a deal that lies exactly as far counts too: with whole numbers many do",
            edit(drift_test, "distance >= own - 1e-9", "distance > own + 1e-9"),
        ),
        Mistake(
            "other_tail",
            "these are the deals that lie nearer: count those that lie at least as far",
            edit(drift_test, "distance >= own - 1e-9", "distance <= own + 1e-9"),
        ),
        Mistake(
            "other_half",
            "the deals do not keep the samples' sizes: the first len(first) of the mixed values "
            "are one sample, all others the other",
            edit(drift_test, "len(first)\n", "len(second)\n"),
        ),
        Mistake(
            "signed",
            "differences below zero are lost: take their absolute value before the largest",
            edit(
                drift_test,
                "np.abs(up_to[0] - up_to[1])",
                "(up_to[0] - up_to[1])",
                within=(distance_of,),
            ),
        ),
        Mistake(
            "one_place",
            "the functions are compared at the values of `first` only: they differ most at a value "
            "of either sample",
            edit(
                drift_test,
                "places = np.concatenate([first, second])",
                "places = first",
                within=(distance_of,),
            ),
        ),
        Mistake(
            "means",
            "this compares means: a sample that only became wider has the same mean",
            edit(
                drift_test,
                "np.abs(up_to[0] - up_to[1]).max()",
                "np.abs(first.mean() - second.mean())",
                within=(distance_of,),
            ),
        ),
    ),
)

# --- bug hunt: answers that are mixed up ------------------------------------------------------


def batch_cases(generator: np.random.Generator) -> list[Case]:
    """Return requests of several texts of several lengths; the last batch is not full."""
    cases = []
    for sizes, rows in (((1, 3, 2, 1), 3), ((2, 2, 1), 2), ((4, 1, 3, 2, 1), 4)):
        lengths = iter(generator.permutation(np.arange(1, 2 + sum(sizes))))
        jobs = [
            [generator.integers(1, 20, next(lengths)).tolist() for _ in range(size)]
            for size in sizes
        ]
        inputs = {"jobs": jobs, "table": generator.normal(0, 1, 20), "rows": rows}
        cases.append(Case(f"requests of {sizes} texts, {rows} rows at a time", inputs))
    return cases


def answer_together(jobs: list[list[list[int]]], table: np.ndarray, rows: int) -> list[list[float]]:
    """Return the mean of each text's token values, request by request."""
    texts = [ids for job in jobs for ids in job]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers = [0.0] * len(texts)
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        T = max(len(texts[i]) for i in chosen)
        ids, mask = np.zeros((len(chosen), T), dtype=int), np.zeros((len(chosen), T))
        for row, i in enumerate(chosen):
            ids[row, : len(texts[i])], mask[row, : len(texts[i])] = texts[i], 1
        means = (table[ids] * mask).sum(axis=1) / mask.sum(axis=1)
        for row, i in enumerate(chosen):
            answers[i] = float(means[row])
    return [[answers.pop(0) for _ in job] for job in jobs]


MIXED_BUGS = {
    "mixed_up": (
        "answers are handed out in the order of length: each belongs to the text at its place "
        "before the sorting",
        *("answers[i] = float", "answers[start + row] = float"),
    ),
    "lost": (
        "the last batch, if it is not full, is never computed",
        *("range(0, len(order), rows)", "range(0, len(order) - rows + 1, rows)"),
    ),
    "padded": (
        "padding counts as a token, so that a text's answer depends on the longest text of its "
        "batch: apply the mask, and divide by its sum",
        *("(table[ids] * mask).sum(axis=1) / mask.sum(axis=1)", "table[ids].mean(axis=1)"),
    ),
}

MIXED = Item(
    name="14.answer_together",
    title="Bug hunt: somebody else's answer",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=batch_cases,
    reference=answer_together,
    diagnoses=remaining(answer_together, MIXED_BUGS),
)

ITEMS = (PERCENTILE, QUEUE, STATUS, ALARM, MIXED)
