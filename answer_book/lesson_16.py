"""Items of lesson 16: BM25, ranks, CUSUM, a split that copies cross, later hits, tagged words."""

import math
import re
from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

# --- BM25 -------------------------------------------------------------------------------------


def bm25_cases(generator: np.random.Generator) -> list[Case]:
    """Return passages of several lengths; common, rare, repeated and unknown words."""
    vocabulary = ["mouse", "printer", "cable", "try", "the", "not", "port"]
    shares = np.array([2, 1, 1, 2, 6, 3, 1]) / 16
    cases = []
    for name, sizes, question in (
        ("three passages", (3, 5, 9), ["the", "mouse", "not"]),
        ("a word that is asked twice", (4, 4, 8, 12), ["printer", "try", "printer"]),
        ("a word that nobody has", (5, 7, 6), ["the", "zebra"]),
        ("an empty passage", (0, 6, 10), ["the", "cable", "port"]),
    ):
        passages = [generator.choice(vocabulary, size, p=shares).tolist() for size in sizes]
        passages[1][0], passages[-1][-2:] = question[0], ["the", "the"]
        for k1, b in ((1.5, 0.75), (0.8, 0.3)):
            inputs = {"question": question, "passages": passages, "k1": k1, "b": b}
            cases.append(Case(f"{name}, k1 = {k1}, b = {b}", inputs))
    for k1, b in ((0.0, 0.5), (1.2, 1.0)):  # where the fraction is 0 / 0 in the empty passage
        cases.append(Case(f"{name}, k1 = {k1}, b = {b}", inputs | {"k1": k1, "b": b}))
    return cases


def bm25_scores(question: list[str], passages: list[list[str]], k1: float, b: float) -> list[float]:
    """Return the score of each passage for a question."""
    N = len(passages)
    mean = sum(len(passage) for passage in passages) / N
    scores = []
    for passage in passages:
        total = 0.0
        norm = k1 * (1 - b + b * len(passage) / mean)
        for word in question:
            n = sum(word in other for other in passages)
            f = passage.count(word)
            rarity = math.log(1 + (N - n + 0.5) / (n + 0.5))
            if f:  # or it may be 0 / 0
                total += rarity * f * (k1 + 1) / (f + norm)
        scores.append(total)
    return scores


def bm25_wrong(*texts: str) -> tuple[Any, Any]:
    """Return a wrong answer that leaves out the words that do not occur, and one that does not."""
    return edit(bm25_scores, *texts), edit(bm25_scores, *texts, "if f:", "if True:")


BM25 = Item(
    name="16.bm25_scores",
    title="BM25",
    **Rating(difficulty=2, importance=4, minutes=20, points=3),
    cases=bm25_cases,
    reference=bm25_scores,
    withheld=("course_utils.retrieval.BM25",),
    diagnoses=(
        Mistake(
            "all_equal",
            "every word counts alike: one that few passages have must say more",
            *bm25_wrong("rarity * f", "f"),
        ),
        Mistake(
            "may_be_negative",
            "the 1 in the logarithm is missing: a word that most passages have counts against them",
            *bm25_wrong(
                "math.log(1 + (N - n + 0.5) / (n + 0.5))",
                "math.log((N - n + 0.5) / (n + 0.5))",
            ),
        ),
        Mistake(
            "occurrences",
            "n counts how often the word stands in all passages: count the passages that have it",
            *bm25_wrong(
                "sum(word in other for other in passages)",
                "min(sum(other.count(word) for other in passages), N)",
            ),
        ),
        Mistake(
            "never_enough",
            "a word counts in proportion to how often it stands there: the tenth time must say "
            "less than the first",
            *bm25_wrong(" * (k1 + 1) / (f + norm)", ""),
        ),
        Mistake(
            "any_length",
            "long passages are not marked down: they hold more words by accident",
            *bm25_wrong("k1 * (1 - b + b * len(passage) / mean)", "k1"),
        ),
        Mistake(
            "b_the_other_way",
            "b and 1 - b are exchanged: with b = 0 the length must not matter",
            *bm25_wrong(
                "(1 - b + b * len(passage) / mean)",
                "(b + (1 - b) * len(passage) / mean)",
            ),
        ),
        Mistake(
            "asked_once",
            "a word that the question has twice counts once: the sum is over the question's words",
            *bm25_wrong("for word in question", "for word in dict.fromkeys(question)"),
        ),
        Mistake(
            "present_or_not",
            "a word counts once however often the passage has it",
            *bm25_wrong("passage.count(word)", "int(word in passage)"),
        ),
        Mistake(
            "zero_over_zero",
            "with k1 = 0, or with b = 1 and an empty passage, the fraction is 0 / 0 for a word "
            "that the passage does not have: such a word adds nothing",
            edit(bm25_scores, "if f:", "if True:"),
        ),
    ),
)

# --- ranks ------------------------------------------------------------------------------------


def rank_cases(generator: np.random.Generator) -> list[Case]:
    """Return scores with and without ties, with one right passage and with several."""
    cases = []
    for name, scores, many in (
        ("one right passage each", generator.normal(0, 1, (6, 8)), 1),
        ("several right ones", generator.normal(0, 1, (5, 10)), 3),
        ("ties", generator.integers(0, 3, (6, 7)).astype(float), 2),
        ("all equal", np.zeros((3, 5)), 1),
    ):
        N = scores.shape[1]
        right = [sorted(generator.choice(N, many, replace=False).tolist()) for _ in scores]
        for k in (1, 3):
            cases.append(Case(f"{name}, k = {k}", {"scores": scores, "right": right, "k": k}))
    return cases


def search_scores(scores: np.ndarray, right: list[list[int]], k: int) -> tuple[float, float]:
    """Return recall@k and the mean reciprocal rank."""
    places = []
    for row, theirs in zip(scores, right, strict=True):
        best = max(row[i] for i in theirs)
        before = sum(row[i] >= best for i in range(len(row)) if i not in theirs)
        places.append(1 + before)
    found = sum(place <= k for place in places) / len(places)
    return found, sum(1 / place for place in places) / len(places)


def ranked_by_order(scores: np.ndarray, right: list[list[int]], k: int) -> tuple[float, float]:
    """Return the same with ties in the order of the passages: a wrong answer."""
    places = []
    for row, theirs in zip(scores, right, strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        places.append(1 + min(order.index(i) for i in theirs))
    return float(np.mean(np.array(places) <= k)), float(np.mean(1 / np.array(places)))


RANKS = Item(
    name="16.search_scores",
    title="How good is a search",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=rank_cases,
    reference=search_scores,
    withheld=(
        "course_utils.retrieval.ranks",
        "course_utils.retrieval.recall_at",
        "course_utils.retrieval.mean_reciprocal_rank",
    ),
    diagnoses=(
        Mistake(
            "lucky_ties",
            "among equal scores the right passage goes first: a search that gives all passages the "
            "same score would be perfect",
            edit(search_scores, "row[i] >= best", "row[i] > best"),
        ),
        Mistake(
            "in_order",
            "equal scores are ranked in the order of the passages: that rewards whoever stands "
            "first. Put the wrong ones first",
            ranked_by_order,
        ),
        Mistake(
            "the_last",
            "of several right passages this takes the worst: the first one found counts",
            edit(search_scores, "max(row[i]", "min(row[i]"),
        ),
        Mistake(
            "rivals",
            "other right passages are counted as if they stood in the way: only wrong ones do",
            edit(
                search_scores,
                "for i in range(len(row)) if i not in theirs",
                "for i in range(len(row)) if i != max(theirs, key=lambda j: row[j])",
            ),
        ),
        Mistake(
            "from_zero",
            "the first place is 0 here: it is 1, or its reciprocal would be infinite",
            edit(search_scores, "1 + before", "before", "1 / place", "1 / max(place, 1)"),
        ),
        Mistake(
            "one_less",
            "a passage at place k is among the first k",
            edit(search_scores, "place <= k", "place < k"),
        ),
        Mistake(
            "mean_rank",
            "this is one over the mean rank: take the mean of the reciprocals",
            edit(
                search_scores,
                "sum(1 / place for place in places) / len(places)",
                "len(places) / sum(places)",
            ),
        ),
    ),
)


# --- CUSUM ------------------------------------------------------------------------------------


def cusum_cases(generator: np.random.Generator) -> list[Case]:
    """Return streams that fall, that rise, that stay, and one that touches the limit."""
    cases = []
    for name, mean, limit in (
        ("a fall", -1.5, 4.0),
        ("a rise", 1.5, 4.0),
        ("no change", 0.0, 60.0),
        ("a slow fall", -0.8, 3.0),
    ):
        values = generator.normal(5, 2, 25)
        values[12:] += 2 * mean
        quiet = generator.normal(5, 2, 30)
        inputs = {"values": values, "quiet": quiet, "allowance": 0.5, "limit": limit}
        cases.append(Case(name, inputs))
    exact = {"values": np.array([3.0, 1.0, 1.0, 7.0]), "quiet": np.array([1.0, 5.0])}
    cases.append(Case("the limit is touched", exact | {"allowance": 0.5, "limit": 0.5}))
    return cases


def cusum_alarm(
    values: np.ndarray, quiet: np.ndarray, allowance: float, limit: float
) -> tuple[list[float], int]:
    """Return the chart and when it first passes the limit, from 1; 0 if never."""
    z = (values - quiet.mean()) / quiet.std()
    chart, total, alarm = [], 0.0, 0
    for t, value in enumerate(z, start=1):
        total = max(0.0, total - value - allowance)
        chart.append(float(total))
        if total > limit and not alarm:
            alarm = t
    return chart, alarm


CUSUM = Item(
    name="16.cusum_alarm",
    title="An alarm that adds up",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=cusum_cases,
    reference=cusum_alarm,
    withheld=("course_utils.alarms.cusum", "course_utils.alarms.first_alarm"),
    diagnoses=(
        Mistake(
            "never_forgets",
            "the sum goes below zero: a good year would then hide a bad month",
            edit(cusum_alarm, "max(0.0, total - value - allowance)", "total - value - allowance"),
        ),
        Mistake(
            "the_other_way",
            "this rises when the values rise: a fall must add up",
            edit(cusum_alarm, "total - value - allowance", "total + value - allowance"),
        ),
        Mistake(
            "gives_allowance",
            "the allowance is added: then the sum grows where nothing happens",
            edit(cusum_alarm, "- value - allowance", "- value + allowance"),
        ),
        Mistake(
            "own_scale",
            "the values are standardised by themselves: what changed becomes the norm. Use the "
            "quiet history",
            edit(
                cusum_alarm,
                "(values - quiet.mean()) / quiet.std()",
                "(values - values.mean()) / values.std()",
            ),
        ),
        Mistake(
            "raw",
            "the values are not divided by the standard deviation of the quiet history",
            edit(cusum_alarm, "(values - quiet.mean()) / quiet.std()", "values - quiet.mean()"),
        ),
        Mistake(
            "touching",
            "the alarm comes where the chart touches the limit: it must pass it",
            edit(cusum_alarm, "total > limit", "total >= limit"),
        ),
        Mistake(
            "only_the_chart",
            "a pair is expected, (chart, first alarm): only the chart came",
            edit(cusum_alarm, "return chart, alarm", "return chart"),
        ),
        Mistake(
            "none_for_never",
            "the second of the pair is None where there is no alarm: it must be 0 there",
            edit(cusum_alarm, "return chart, alarm", "return chart, alarm or None"),
        ),
        Mistake(
            "the_last_alarm",
            "this is the last time above the limit: return the first",
            edit(cusum_alarm, "total > limit and not alarm", "total > limit"),
        ),
        Mistake(
            "from_zero",
            "counted from 0: the first value is number 1, and 0 says that there was no alarm",
            edit(cusum_alarm, "start=1", "start=0"),
        ),
    ),
)

# --- bug hunt: copies on both sides -----------------------------------------------------------


def split_cases(generator: np.random.Generator) -> list[Case]:
    """Return exchanges with copies, capitals, shared answers, and chains of both."""
    cases = []
    for name, rows in (
        ("copies", [("Q1", "A1"), ("Q2", "A2"), ("Q1", "A1"), ("Q3", "A3"), ("Q2", "A2")]),
        (
            "capitals and blanks",
            [("my mouse", "Try."), ("My  Mouse", "Push."), ("mice", "Look."), ("cats", "No.")],
        ),
        (
            "blanks that part words, and marks",
            [("note book", "1"), ("notebook", "2"), ("Really?", "3"), ("really", "4")],
        ),
        (
            "many blanks",
            [("my   mouse", "1"), (" My mouse", "2"), ("my mouse", "3"), ("mice", "4")],
        ),
        ("shared answers", [("why", "So."), ("how", "so. "), ("when", "Now."), ("where", "Here.")]),
        (
            "a chain",
            [("d", "3"), ("a", "1"), ("e", "4"), ("c", "2"), ("b", "1"), ("b", "2"), ("f", "5")],
        ),
        (
            "a chain with capitals",
            [("X", "9"), ("b", "ONE"), ("a", "one"), ("A ", "two"), ("c", "Two"), ("y", "8")],
        ),
    ):
        for size in (2, 3):
            order = generator.permutation(len(rows)).tolist()
            questions, answers = (list(part) for part in zip(*rows, strict=True))
            inputs = {"questions": questions, "answers": answers, "order": order, "size": size}
            cases.append(Case(f"{name}, {size} or more for the test", inputs))
        for head, what in ((len(rows) - 2, "the last but one"), (1, "the second")):
            rest = [i for i in reversed(range(len(rows))) if i != head]
            inputs = {"questions": questions, "answers": answers, "order": [head, *rest]}
            cases.append(Case(f"{name}, {what} first", inputs | {"size": 2}))
    return cases


def plain(text: str) -> str:
    """Return a text without capitals and superfluous blanks."""
    return " ".join(text.lower().split())


def blanks_at_the_ends(text: str) -> str:
    """Return a text without capitals, its blanks made single but not taken off the ends."""
    return re.sub(" +", " ", text.lower())


def without_marks(text: str) -> str:
    """Return the words of a text: the library's rule for questions, not this exercise's."""
    return " ".join(re.findall(r"\w+", text.lower()))


def fair_split(questions: list[str], answers: list[str], order: list[int], size: int) -> list[int]:
    """Return the rows of the test part: whole groups, until there are enough."""
    keys = [(plain(q), plain(a)) for q, a in zip(questions, answers, strict=True)]
    group, changed = list(range(len(keys))), True
    while changed:
        changed = False
        for i in range(len(keys)):
            for j in range(i):
                alike = keys[i][0] == keys[j][0] or keys[i][1] == keys[j][1]
                if alike and group[i] != group[j]:
                    group[i] = group[j] = min(group[i], group[j])
                    changed = True
    test: list[int] = []
    for row in order:
        if len(test) < size and row not in test:
            test += [i for i in range(len(keys)) if group[i] == group[row]]
    return sorted(test)


SPLIT_BUGS = {
    "capitals": (
        "texts that differ in capitals or blanks only count as different: compare them without",
        *('" ".join(text.lower().split())', "text"),
    ),
    "answers": (
        "two questions with the same answer may stand on both sides: whoever has seen the one "
        "knows what to say to the other",
        *(" or keys[i][1] == keys[j][1]", ""),
    ),
    "cut": (
        "the last group is cut when there are enough rows: its rest is left in the training part",
        *("return sorted(test)", "return sorted(test[:size])"),
    ),
}

SPLIT = Item(
    name="16.fair_split",
    title="Bug hunt: copies on both sides",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=split_cases,
    reference=fair_split,
    withheld=("course_utils.splits.leakage_groups", "course_utils.dialogues.split_exchanges"),
    diagnoses=(
        *remaining(fair_split, SPLIT_BUGS, within=(plain,)),
        Mistake(
            "one_step",
            "groups are joined in one pass: a is like b and b like c, so a and c belong together "
            "too. Repeat until nothing changes",
            edit(fair_split, "while changed:", "if changed:"),
        ),
        Mistake(
            "unsorted",
            "these are the right rows, but they must be sorted, the smallest number first",
            edit(fair_split, "return sorted(test)", "return test"),
        ),
        Mistake(
            "blanks_count",
            "capitals are set aside, but texts that differ in superfluous blanks only still count "
            "as different: several blanks are as good as one, and those at the ends do not count",
            *(
                edit(fair_split, '" ".join(text.lower().split())', plain_text, within=(plain,))
                for plain_text in (
                    "text.lower()",
                    "text.lower().strip()",
                    "blanks_at_the_ends(text)",
                    'text.lower().strip().replace("  ", " ")',
                )
            ),
        ),
        Mistake(
            "capitals_count",
            "blanks are set aside, but texts that differ in capitals only still count as different",
            edit(fair_split, "text.lower().split()", "text.split()", within=(plain,)),
        ),
        Mistake(
            "no_blanks",
            "all blanks are taken out: one blank between two words still counts, so that "
            "`mouse pad` and `mousepad` are two texts",
            edit(fair_split, '" ".join(', '"".join(', within=(plain,)),
            edit(
                fair_split,
                *('" ".join(text.lower().split())', 'text.lower().replace(" ", "")'),
                within=(plain,),
            ),
        ),
        Mistake(
            "no_marks",
            "marks are set aside too: here they count, so that `Why?` and `why` are two texts",
            edit(
                fair_split,
                *('" ".join(text.lower().split())', "without_marks(text)"),
                within=(plain,),
            ),
        ),
    ),
)

# --- hits in the future (16b) -----------------------------------------------------------------


def hit_cases(generator: np.random.Generator) -> list[Case]:
    """Return visits of people who come back, who come new, and who never come again."""
    cases = []
    for rows, people, films in ((40, 6, 12), (120, 15, 20), (60, 8, 30)):
        pairs = generator.permutation(people * films)[:rows]  # nobody rates a film twice
        popular = np.argsort(generator.random(films))
        inputs = {
            "people": pairs % people,
            "films": popular[(films * (pairs // people / films) ** 2).astype(int)],
            "times": generator.permutation(2 * rows)[:rows],
        }
        keep = np.unique(inputs["people"] * films + inputs["films"], return_index=True)[1]
        inputs = {name: values[keep] for name, values in inputs.items()}
        moment = int(np.quantile(inputs["times"], 0.6))
        for k in (1, 3, 8):
            cases.append(Case(f"{len(keep)} rows, k={k}", {**inputs, "moment": moment, "k": k}))
    tied = {  # films 3 and 1 are equally popular; person 1 rates at the moment itself
        "people": np.array([0, 1, 0, 1, 2]),
        "films": np.array([3, 1, 2, 3, 1]),
        "times": np.array([1, 2, 3, 5, 6]),
    }
    cases += [Case(f"ties, k={k}", {**tied, "moment": 5, "k": k}) for k in (1, 2)]
    first, second, unrated = generator.permutation(5)[:3].tolist()
    short = {  # the list has room for a film that is rated in the future only
        "people": np.array([0, 1, 0, 1, 2]),
        "films": np.array([first, second, second, unrated, unrated]),
        "times": np.array([1, 2, 5, 6, 7]),
    }
    cases.append(Case("more places than rated films", {**short, "moment": 4, "k": 6}))
    return cases


def hit_rate(
    people: np.ndarray, films: np.ndarray, times: np.ndarray, moment: int, k: int
) -> float:
    """Return the share of later visitors whose list of k films holds one that they rate later."""
    past = times < moment
    counts = np.bincount(films[past], minlength=films.max() + 1)
    order = [film for film in np.argsort(-counts, kind="stable") if counts[film] > 0]
    hits = []
    for person in np.unique(people[~past]):
        seen = set(films[past & (people == person)].tolist())
        shown = [film for film in order if film not in seen][:k]
        hits.append(bool(np.isin(films[~past & (people == person)], shown).any()))
    return float(np.mean(hits))


HIT_RATE = Item(
    name="16.hit_rate",
    title="Hits in the future",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=hit_cases,
    reference=hit_rate,
    withheld=("course_utils.ratings.visitors", "course_utils.ranking.ranked"),
    diagnoses=(
        Mistake(
            "from_the_future",
            "the counts hold ratings from the moment on: what is popular then is not known yet",
            edit(
                hit_rate,
                *("np.bincount(films[past], ", "np.bincount(films, "),
            ),
        ),
        Mistake(
            "shown_again",
            "films that the person has already rated take places in the list: leave them out "
            "first, then take k",
            edit(hit_rate, "if film not in seen][:k]", "][:k]"),
            edit(
                hit_rate, "in order if film not in seen][:k]", "in order[:k] if film not in seen]"
            ),
        ),
        Mistake(
            "unrated_shown",
            "films that nobody had rated before the moment fill up the lists: they are in no list, "
            "so that a list may have less than k films",
            edit(hit_rate, " if counts[film] > 0]", "]"),
        ),
        Mistake(
            "over_ratings",
            "the mean is over ratings: a person with many counts many times. One answer for each "
            "person",
            edit(
                hit_rate,
                *("hits.append(bool(", "hits.extend("),
                *(", shown).any()))", ", shown).tolist())"),
            ),
        ),
        Mistake(
            "everybody",
            "people who do not come again are counted as misses: nothing could have been foreseen "
            "for them",
            edit(hit_rate, "np.unique(people[~past])", "np.unique(people)"),
        ),
        Mistake(
            "moment_too_late",
            "a rating at the moment itself belongs to the future",
            edit(hit_rate, "past = times < moment", "past = times <= moment"),
        ),
        Mistake(
            "all_wanted",
            "only lists that hold every later film count: one is enough for a hit",
            edit(
                hit_rate,
                "np.isin(films[~past & (people == person)], shown).any()",
                "np.isin(films[~past & (people == person)], shown).all()",
            ),
        ),
    ),
)

# --- from pieces back to words (16c) ----------------------------------------------------------


def piece_cases(generator: np.random.Generator) -> list[Case]:
    """Return words of one to four pieces; some at the end were cut off, some are not judged."""
    cases = []
    for count, lost in ((6, 0), (12, 0), (12, 3), (25, 6)):
        pieces = generator.integers(1, 5, size=count)
        ids = [n for n in range(count - lost) for _ in range(pieces[n])]
        tags = generator.integers(0, 3, size=count).tolist()
        for n in [0, *generator.permutation(count)[: count // 5].tolist()]:
            tags[n] = -100
        tags[-1] = 0  # judged, also where it was cut off
        said = [
            tags[n] if tags[n] >= 0 and generator.random() < 0.6 else int(generator.integers(3))
            for n in ids
        ]
        inputs = {"word_ids": [None, *ids, None], "said": [0, *said, 0], "tags": tags}
        cases.append(Case(f"{count} words, {lost} of them cut off", inputs))
    one = {"word_ids": [None, 0, 1, 1, 2, None], "said": [0, 1, 1, 0, 2, 0], "tags": [-100, 1, 0]}
    cases.append(Case("three words by hand", one))
    return cases


def word_accuracy(word_ids: list[int | None], said: list[int], tags: list[int]) -> float:
    """Return the share of the judged words that got their tag."""
    first: dict[int, int] = {}
    for word, tag in zip(word_ids, said, strict=True):
        if word is not None:
            first.setdefault(word, tag)
    judged = [n for n, tag in enumerate(tags) if tag != -100]
    return sum(first.get(n) == tags[n] for n in judged) / len(judged)


WORD_ACCURACY = Item(
    name="16.word_accuracy",
    title="From pieces back to words",
    **Rating(difficulty=2, importance=4, minutes=12, points=3),
    cases=piece_cases,
    reference=word_accuracy,
    diagnoses=(
        Mistake(
            "every_piece",
            "every piece counts, so that long words count more often than short ones: a word is "
            "judged once, by its first piece",
            lambda word_ids, said, tags: float(
                np.mean(
                    [
                        tag == tags[word]
                        for word, tag in zip(word_ids, said, strict=True)
                        if word is not None and tags[word] != -100
                    ]
                )
            ),
        ),
        Mistake(
            "last_piece",
            "the last piece of a word speaks for it: the first one was trained to",
            edit(word_accuracy, "first.setdefault(word, tag)", "first[word] = tag"),
        ),
        Mistake(
            "cut_off_forgotten",
            "words that were cut off are left out of the count: nothing was said of them, so they "
            "are not right",
            edit(word_accuracy, "if tag != -100]", "if tag != -100 and n in first]"),
        ),
        Mistake(
            "minus_100_counts",
            "words with -100 are counted as wrong: they are not judged at all",
            edit(word_accuracy, "if tag != -100]", "]"),
        ),
        Mistake(
            "cut_off_is_o",
            "words that were cut off count as tagged 0: nothing was said of them",
            edit(word_accuracy, "first.get(n)", "first.get(n, 0)"),
        ),
        Mistake(
            "piece_by_piece",
            "the pieces are compared with the words one by one: the first piece is a special "
            "token, and words have several pieces. `word_ids` says where each belongs",
            edit(
                word_accuracy,
                *("first.setdefault(word, tag)", "first[len(first)] = tag"),
            ),
        ),
    ),
)

ITEMS = (BM25, RANKS, CUSUM, SPLIT, HIT_RATE, WORD_ACCURACY)
