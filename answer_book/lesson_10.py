"""Items of lesson 10: rotations, a cache, top-p, calibration; and a model that never stops."""

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from answer_book.lesson_01 import softmax
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

IGNORED = -100  # the label of a position that is not asked

# --- positions as rotations -------------------------------------------------------------------


def rotate_cases(generator: np.random.Generator) -> list[Case]:
    """Tokens in order, tokens far from the beginning, and a batch of one."""
    cases = []
    for name, positions, size, base in (
        ("five tokens from the beginning", np.arange(5), 8, 100.0),
        ("tokens far on, not in order", np.array([40, 7, 1000]), 6, 10_000.0),
        ("one token, one pair", np.array([2]), 2, 10.0),
    ):
        x = generator.normal(0, 1, (len(positions), size))
        cases.append(Case(name, {"x": x, "positions": positions, "base": base}))
    return cases


def rotate(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Turn pair i of each row by its position times base ** (-2 i / d)."""
    d = x.shape[1]
    speed = base ** (-np.arange(0, d, 2) / d)
    angle = positions[:, None] * speed
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = x[:, : d // 2], x[:, d // 2 :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def rotate_neighbours(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Turn pairs of neighbours, as the paper draws it."""
    d = x.shape[1]
    turned = rotate(np.concatenate([x[:, 0::2], x[:, 1::2]], axis=1), positions, base)
    return np.stack([turned[:, : d // 2], turned[:, d // 2 :]], axis=2).reshape(x.shape)


ROTATE = Item(
    name="10.rotate",
    title="Positions as rotations",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=rotate_cases,
    reference=rotate,
    withheld=("course_utils.llama_blocks.rotate", "course_utils.llama_blocks.rotary_waves"),
    diagnoses=(
        Mistake(
            "turned_back",
            "turned the wrong way: the first half gets minus the sine, the second half plus",
            edit(
                rotate,
                "first * cos - second * sin, second * cos + first * sin",
                "first * cos + second * sin, second * cos - first * sin",
            ),
        ),
        Mistake(
            "not_a_rotation",
            "lengths change, so this is no rotation: of the two sums, one has a minus",
            edit(rotate, "first * cos -", "first * cos +"),
        ),
        Mistake(
            "neighbours_paired",
            "neighbours are paired, as the paper draws it: here number i belongs to number i + d/2",
            rotate_neighbours,
        ),
        Mistake(
            "all_alike",
            "all pairs turn at the same speed: pair i turns by base ** (-2 i / d) a token",
            edit(rotate, "base ** (-np.arange(0, d, 2) / d)", "np.ones(d // 2)"),
        ),
        Mistake(
            "half_speed",
            "the exponent grows by 1/d from pair to pair: it should by 2/d",
            edit(rotate, "np.arange(0, d, 2)", "np.arange(d // 2)"),
        ),
        Mistake(
            "place_in_the_batch",
            "the row number is taken for the position: with padding, or a cache, they differ",
            edit(rotate, "positions[:, None]", "np.arange(len(positions))[:, None]"),
        ),
        Mistake(
            "faster_and_faster",
            "later pairs turn faster: the exponent is negative",
            edit(rotate, "(-np.arange", "(np.arange"),
        ),
    ),
)

# --- a token that asks a cache ----------------------------------------------------------------


def cache_cases(generator: np.random.Generator) -> list[Case]:
    """Several groups, one group for all heads, and a cache of one token."""
    cases = []
    for H, G, P, d in ((6, 2, 5, 4), (4, 1, 7, 8), (3, 3, 1, 4)):
        inputs = {
            "query": generator.normal(0, 2, (H, d)),
            "keys": generator.normal(0, 2, (G, P, d)),
            "values": generator.normal(0, 1, (G, P, d)),
        }
        cases.append(Case(f"{H} heads in {G} groups, {P} tokens read", inputs))
    inputs = {
        "query": generator.normal(0, 60, (2, 4)),
        "keys": generator.normal(0, 60, (1, 6, 4)),
        "values": generator.normal(0, 1, (1, 6, 4)),
    }
    return [*cases, Case("scores in the thousands", inputs)]


def ask_cache(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Let one token's H heads ask the keys of their groups."""
    shared = len(query) // len(keys)
    keys, values = np.repeat(keys, shared, axis=0), np.repeat(values, shared, axis=0)
    scores = np.einsum("hd,hpd->hp", query, keys) / np.sqrt(query.shape[1])
    weights = softmax(scores, axis=1)
    return np.einsum("hp,hpd->hd", weights, values)


CACHE = Item(
    name="10.ask_cache",
    title="One new token asks the cache",
    **Rating(difficulty=3, importance=5, minutes=20, points=3),
    cases=cache_cases,
    reference=ask_cache,
    withheld=("course_utils.blocks.attention",),
    diagnoses=(
        Mistake(
            "groups_interleaved",
            "the groups are dealt out in turn (0, 1, 0, 1): neighbouring heads share a group "
            "(0, 0, 1, 1). np.repeat, not np.tile",
            edit(
                ask_cache,
                *("np.repeat(keys, shared, axis=0)", "np.tile(keys, (shared, 1, 1))"),
                *("np.repeat(values, shared, axis=0)", "np.tile(values, (shared, 1, 1))"),
            ),
        ),
        Mistake(
            "values_of_another_group",
            "keys are right, but the values come from the groups in turn: repeat both alike",
            edit(ask_cache, "np.repeat(values, shared, axis=0)", "np.tile(values, (shared, 1, 1))"),
        ),
        Mistake(
            "not_scaled",
            "scores are not divided by the square root of d, the length of a query",
            edit(ask_cache, " / np.sqrt(query.shape[1])", ""),
        ),
        Mistake(
            "scaled_by_hidden_size",
            "scores are divided by the root of H d, the hidden size: d is the length of one head's "
            "query",
            edit(ask_cache, "np.sqrt(query.shape[1])", "np.sqrt(query.size)"),
        ),
        Mistake(
            "normalised_over_heads",
            "the weights sum to 1 over the heads: each head shares out its own 1 over the tokens",
            edit(ask_cache, "softmax(scores, axis=1)", "softmax(scores, axis=0)"),
        ),
        Mistake(
            "last_token_blind",
            "the newest token's own key is left out: a token sees itself",
            edit(
                ask_cache,
                *(
                    "softmax(scores, axis=1)",
                    "softmax(scores[:, : max(1, scores.shape[1] - 1)], axis=1)",
                ),
                *(
                    '"hp,hpd->hd", weights, values',
                    '"hp,hpd->hd", weights, values[:, : weights.shape[1]]',
                ),
            ),
        ),
        Mistake(
            "unstable",
            "right for small scores, not a number for large ones: subtract each head's largest "
            "score before exp",
            edit(ask_cache, " - logits.max(axis=axis, keepdims=True)", "", within=(softmax,)),
        ),
    ),
)

# --- top-p ------------------------------------------------------------------------------------


def nucleus_cases(generator: np.random.Generator) -> list[Case]:
    """Draw a sure model, an unsure one, a p that one token fills, and one that needs all."""
    cases = []
    for name, V, size, p in (
        ("an unsure model", 12, 0.4, 0.7),
        ("a sure one", 12, 3.0, 0.9),
        ("one token is enough", 9, 4.0, 0.05),
        ("nearly all are needed", 15, 1.0, 0.97),
    ):
        cases.append(Case(name, {"logits": generator.normal(0, size, V), "p": p}))
    return cases


def nucleus(logits: np.ndarray, p: float) -> np.ndarray:
    """Keep the fewest likeliest tokens whose chances together reach p."""
    chances = softmax(logits, axis=0)
    order = np.argsort(-chances)
    before = np.cumsum(chances[order]) - chances[order]
    kept = np.zeros_like(chances)
    kept[order[before < p]] = chances[order[before < p]]
    return kept / kept.sum()


NUCLEUS = Item(
    name="10.nucleus",
    title="Top-p: the fewest that are enough",
    **Rating(difficulty=3, importance=5, minutes=15, points=3),
    cases=nucleus_cases,
    reference=nucleus,
    withheld=("course_utils.generation.keep",),
    diagnoses=(
        Mistake(
            "one_too_few",
            "the token that reaches p is dropped: what is kept then has less than p, and of a sure "
            "model nothing is left",
            edit(
                nucleus,
                "np.cumsum(chances[order]) - chances[order]",
                "np.cumsum(chances[order]) * (np.arange(len(order)) > 0)",
            ),
        ),
        Mistake(
            "one_too_many",
            "one token more than needed is kept: stop as soon as the sum reaches p",
            edit(
                nucleus,
                "np.cumsum(chances[order]) - chances[order]",
                "np.concatenate([[0, 0], np.cumsum(chances[order])[:-2]])",
            ),
        ),
        Mistake(
            "not_normalised",
            "what is kept does not sum to 1: divide by its sum",
            edit(nucleus, "kept / kept.sum()", "kept"),
        ),
        Mistake(
            "unlikely_first",
            "sorted from unlikely to likely: the tail is kept, and the likeliest token dropped",
            edit(nucleus, "np.argsort(-chances)", "np.argsort(chances)"),
        ),
        Mistake(
            "a_floor",
            "every token with a chance of at least 1 - p is kept: that is a floor for each token. "
            "Top-p is a sum over the likeliest",
            edit(
                nucleus,
                *("    before = np.cumsum(chances[order]) - chances[order]\n", ""),
                *(
                    "kept[order[before < p]] = chances[order[before < p]]",
                    "kept = np.where((chances >= 1 - p) | (chances == chances.max()), chances, 0)",
                ),
            ),
        ),
        Mistake(
            "in_sorted_order",
            "the chances come back sorted: token i's chance belongs at place i",
            edit(nucleus, "return kept", "kept = kept[order]\n    return kept"),
        ),
        Mistake(
            "all_kept",
            "nothing is cut: these are the chances as they were",
            edit(nucleus, "return kept / kept.sum()", "return chances"),
        ),
    ),
)

# --- calibration ------------------------------------------------------------------------------


def calibrate_cases(generator: np.random.Generator) -> list[Case]:
    """Draw a prompt with a bias, three words, and words that are never likely."""
    cases = []
    for name, N, M, C, level in (
        ("two words, two empty texts", 5, 2, 2, -2.0),
        ("three words", 4, 3, 3, -4.0),
        ("label words that are never likely", 3, 2, 2, -900.0),
    ):
        bias = generator.normal(0, 2, C)
        inputs = {
            "scores": generator.normal(0, 1, (N, C)) + bias + level,
            "empty": generator.normal(0, 0.7, (M, C)) + bias + level,
        }
        cases.append(Case(name, inputs))
    return cases


def calibrate(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Divide by the mean probabilities of texts without content, and normalise."""
    prior = softmax(empty, axis=1).mean(axis=0)
    divided = softmax(scores, axis=1) / prior
    return divided / divided.sum(axis=1, keepdims=True)


CALIBRATE = Item(
    name="10.calibrate",
    title="What the prompt prefers by itself",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=calibrate_cases,
    reference=calibrate,
    withheld=("course_utils.prompting.calibrate",),
    diagnoses=(
        Mistake(
            "multiplied",
            "multiplied by what the prompt prefers, so that the bias is there twice: divide",
            edit(calibrate, "axis=1) / prior", "axis=1) * prior"),
        ),
        Mistake(
            "not_normalised",
            "rows do not sum to 1: divide each by its sum",
            edit(calibrate, "divided / divided.sum(axis=1, keepdims=True)", "divided"),
        ),
        Mistake(
            "subtracted",
            "probabilities are subtracted: a prompt that prefers a word multiplies its chance, so "
            "divide",
            edit(calibrate, "axis=1) / prior", "axis=1) - prior"),
        ),
        Mistake(
            "over_texts",
            "softmax runs over the texts: the words of one text share out its 1",
            edit(calibrate, "softmax(scores, axis=1)", "softmax(scores, axis=0)"),
        ),
        Mistake(
            "mean_of_logarithms",
            "the logarithms of the empty texts are averaged: average their probabilities",
            edit(
                calibrate,
                "softmax(empty, axis=1).mean(axis=0)",
                "softmax(empty.mean(axis=0), axis=0)",
            ),
        ),
        Mistake(
            "first_only",
            "only the first empty text is used: average over all of them",
            edit(calibrate, ".mean(axis=0)", "[0]"),
        ),
        Mistake(
            "prior_of_the_texts",
            "divided by the mean of the texts themselves, not of the empty ones: that assumes "
            "balanced classes",
            edit(calibrate, "softmax(empty,", "softmax(scores,"),
        ),
        Mistake(
            "unstable",
            "right, except where all words are unlikely and exp gives 0: subtract each row's "
            "largest logarithm first",
            edit(calibrate, " - logits.max(axis=axis, keepdims=True)", "", within=(softmax,)),
        ),
    ),
)

# --- bug hunt: the model that never stops -----------------------------------------------------

END = 2


def batch_cases(generator: np.random.Generator) -> list[Case]:
    """Questions and answers of unequal length; answers that hold the end token's neighbours."""
    cases = []
    for name, sizes in (
        ("one dialogue", [(3, 2)]),
        ("three of unequal length", [(4, 1), (2, 5), (6, 3)]),
        ("a question that holds an end token", [(5, 2), (3, 4), (2, 2), (7, 1)]),
    ):
        questions = [generator.integers(3, 90, q).tolist() for q, _ in sizes]
        answers = [generator.integers(3, 90, a).tolist() for _, a in sizes]
        if "holds" in name:
            questions[0][2] = END  # the turn before this one ended there
        cases.append(Case(name, {"questions": questions, "answers": answers, "end": END}))
    return cases


def dialogue_batch(
    questions: list[list[int]], answers: list[list[int]], end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, attention mask and labels, padded on the right with the end token."""
    texts = [[*q, *a, end] for q, a in zip(questions, answers, strict=True)]
    T = max(len(text) for text in texts)
    ids = np.full((len(texts), T), end)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    lengths = np.array([len(text) for text in texts])
    mask = (np.arange(T) < lengths[:, None]).astype(int)
    labels = np.where(mask == 1, ids, IGNORED)
    for row, question in enumerate(questions):
        labels[row, : len(question)] = IGNORED
    return ids, mask, labels


BATCH = Item(
    name="10.dialogue_batch",
    title="Bug hunt: the model that never stops",
    **Rating(difficulty=4, importance=5, minutes=20, points=3),
    cases=batch_cases,
    reference=dialogue_batch,
    withheld=("course_utils.instructions.collate_examples",),
    diagnoses=remaining(
        dialogue_batch,
        {
            "no_end": (
                "no answer ends: the end token must follow every answer, or the model is never "
                "shown where to stop",
                *("*a, end]", "*a]"),
            ),
            "end_is_padding": (
                "the mask is told by the token, and the end token is padding too: real ends are "
                "masked, and never asked for. The lengths say what is padding",
                *("(np.arange(T) < lengths[:, None])", "(ids != end)"),
            ),
            "question_asked": (
                "the question is asked for too: the model learns to write questions. Labels begin "
                "where the answer does",
                *("labels[row, : len(question)] = IGNORED", "pass"),
            ),
        },
    ),
)

ITEMS = (ROTATE, CACHE, NUCLEUS, CALIBRATE, BATCH)
