"""Items of lesson 03: attention, heads, LayerNorm and parameters by hand; and a broken block."""

import math
from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from answer_book.lesson_01 import softmax
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating, Symptom
from course_utils.grading.rules import lesson_03 as rules
from course_utils.grading.wire import Tensor

# --- scaled dot-product attention with a mask -------------------------------------------------


def attention_cases(generator: np.random.Generator) -> list[Case]:
    """With and without padding; scores beyond what an exponential can hold; a token alone."""
    cases = []
    for name, T, d, length, offset in (
        ("four tokens, no padding", 4, 3, 4, 0.0),
        ("six positions, two of them padding", 6, 4, 4, 0.0),
        ("five positions, five numbers each, one padding", 5, 5, 4, 0.0),
        ("a single token", 1, 3, 1, 0.0),
        ("scores above a thousand, one padding", 4, 3, 3, 30.0),
    ):
        query, key = generator.normal(offset, 1.2, (2, T, d))
        mask = (np.arange(T) < length).astype(int)
        value = generator.normal(0, 1, (T, d))
        cases.append(Case(name, {"query": query, "key": key, "value": value, "mask": mask}))
    return cases


def attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Mix the values: each query by its scores against the keys that are tokens."""
    d = query.shape[-1]
    scores = query @ key.T / math.sqrt(d)  # (T, T)
    scores = np.where(mask == 1, scores, -np.inf)
    weights = softmax(scores, axis=1)
    return weights @ value


# Edits of it that are made together with others below.
NO_SCALE = (" / math.sqrt(d)", "")
NO_MASK = ("scores = np.where(mask == 1, scores, -np.inf)", "pass")
OVER_QUERIES = ("axis=1", "axis=0")
LATE_MASK = (*NO_MASK, "softmax(scores, axis=1)", "softmax(scores, axis=1) * mask")
FORBIDDEN = "np.where(mask == 1, scores, -np.inf)"


ATTENTION = Item(
    name="03.attention",
    title="Attention with a mask",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=attention_cases,
    reference=attention,
    withheld=(
        "course_utils.blocks.attention",
        "torch.nn.functional.scaled_dot_product_attention",
    ),
    diagnoses=(
        Mistake(
            "no_scale",
            "the scores are not divided by √d, so softmax is more decided than it should be",
            edit(attention, *NO_SCALE),
        ),
        Mistake(
            "scale_without_root",
            "the scores are divided by d: their standard deviation is the root of d",
            edit(attention, "math.sqrt(d)", "d"),
        ),
        Mistake(
            "scale_of_tokens",
            "divided by the root of T: what counts is d, the length of a query "
            "(its last dimension)",
            edit(attention, "shape[-1]", "shape[0]"),
        ),
        Mistake(
            "wrong_axis",
            "softmax is taken over the queries: each query distributes its attention over the "
            "keys, so every row must sum to 1",
            # of -∞, a column that holds nothing else would make nan
            edit(attention, *OVER_QUERIES, "-np.inf", "-1e9"),
        ),
        Mistake(
            "late_mask",
            "the mask comes after softmax: the weights left over no longer sum to 1. Mask the "
            "scores, before softmax",
            edit(attention, *LATE_MASK),
        ),
        Mistake(
            "zero_scores",
            "a score of 0 is not forbidden: its weight is e⁰ = 1 before it is normalised. "
            "Use a very low score",
            edit(attention, FORBIDDEN, "scores * mask"),
        ),
        Mistake(
            "mask_added",
            "the mask is added to the scores as 0 and 1: that forbids nothing. A forbidden score "
            "is replaced by a very low one",
            edit(attention, FORBIDDEN, "scores + mask"),
        ),
        Mistake(
            "zero_times_infinity",
            "everything is nan, because 0 · ∞ is: choose between two scores (np.where), or use a "
            "very low finite number",
            edit(attention, FORBIDDEN, "scores + (1 - mask) * -np.inf"),
        ),
        Mistake(
            "no_scale_no_mask",
            "two things are missing: the division by √d, and the mask",
            edit(attention, *NO_SCALE, *NO_MASK),
        ),
        Mistake(
            "no_scale_late_mask",
            "two things. The scores are not divided by √d. And the mask comes after softmax: the "
            "weights left over no longer sum to 1",
            edit(attention, *NO_SCALE, *LATE_MASK),
        ),
        Mistake(
            "no_scale_wrong_axis",
            "two things. The scores are not divided by √d. And softmax is taken over the queries: "
            "every row must sum to 1",
            edit(attention, *NO_SCALE, *OVER_QUERIES, "-np.inf", "-1e9"),
        ),
        Mistake(
            "wrong_axis_no_mask",
            "two things. Softmax is taken over the queries: every row must sum to 1. And the mask "
            "is not used",
            edit(attention, *NO_MASK, *OVER_QUERIES),
        ),
        Mistake("no_mask", "padding is listened to: `mask` is not used", edit(attention, *NO_MASK)),
        Mistake(
            "mask_inverted",
            "the mask is the wrong way round: 1 is a token, 0 is padding",
            edit(attention, FORBIDDEN, "np.where(mask == 1, -1e9, scores)"),
        ),
        Mistake(
            "mask_on_queries",
            "the mask forbids rows, the ones who ask: it belongs to the columns, the keys",
            edit(attention, FORBIDDEN, "np.where(mask[:, None] == 1, scores, -1e9)"),
        ),
        Mistake(
            "mask_on_queries",
            "the mask forbids rows, the ones who ask, and a row of -∞ alone gives nan: it belongs "
            "to the columns, the keys",
            edit(attention, "mask == 1", "mask[:, None] == 1"),
        ),
        Mistake(
            "unstable",
            "right for small scores, nan for large ones: subtract each row's maximum before exp",
            edit(
                attention,
                "softmax(scores, axis=1)",
                "np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)",
            ),
        ),
        Mistake(
            "asked_and_asking",
            "queries and keys are exchanged: row i of the scores belongs to query i",
            edit(attention, "query @ key.T", "key @ query.T"),
        ),
        Mistake(
            "weights_only",
            "these are the weights: with them the values are still to be mixed",
            edit(attention, " @ value", ""),
        ),
    ),
)


# --- heads ------------------------------------------------------------------------------------


def head_cases(generator: np.random.Generator) -> list[Case]:
    """All dimensions different, so that a mixed-up shape cannot fit by accident."""
    return [
        Case(
            f"{B} texts of {T} tokens with {D} numbers, {heads} head{'s' * (heads > 1)}",
            dict(zip(("query", "key", "value"), generator.normal(0, 1, (3, B, T, D)), strict=True))
            | {"heads": heads},
        )
        for B, T, D, heads in ((2, 5, 6, 3), (1, 4, 8, 2), (3, 2, 4, 4), (2, 3, 4, 1))
    ]


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return attention over the last two dimensions, (..., T, d)."""
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    return softmax(scores, axis=-1) @ value


def multi_head(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    """Cut each vector into heads, attend in each, and put the pieces side by side again."""
    B, T, D = query.shape

    def cut(x: np.ndarray) -> np.ndarray:
        return x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)

    mixed = attend(cut(query), cut(key), cut(value))  # (B, H, T, D/H)
    return mixed.transpose(0, 2, 1, 3).reshape(B, T, D)


CUT, JOIN = (
    "x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)",
    "mixed.transpose(0, 2, 1, 3)",
)
CUT_STRAIGHT = (CUT, "x.reshape(B, heads, T, D // heads)")
CUT_INTERLEAVED = (CUT, "x.reshape(B, T, D // heads, heads).transpose(0, 3, 1, 2)")
JOIN_STRAIGHT = (JOIN, "mixed")
JOIN_INTERLEAVED = (JOIN, "mixed.transpose(0, 2, 3, 1)")


HEADS = Item(
    name="03.multi_head",
    title="Many heads, one vector",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
    cases=head_cases,
    reference=multi_head,
    withheld=(
        "course_utils.blocks.attention",
        "course_utils.blocks.SelfAttention",
        "torch.nn.functional.multi_head_attention_forward",
    ),
    diagnoses=(
        Mistake(
            "both_transposes",
            "the shapes fit and the contents do not: (B, T, D) is cut to (B, T, H, D/H), and only "
            "a transpose makes (B, H, T, D/H) of that. The same on the way back",
            edit(multi_head, *CUT_STRAIGHT, *JOIN_STRAIGHT),
        ),
        Mistake(
            "split_transpose",
            "a reshape straight to (B, H, T, D/H) cuts through tokens: cut D first, to "
            "(B, T, H, D/H), then exchange T and H",
            edit(multi_head, *CUT_STRAIGHT),
        ),
        Mistake(
            "join_transpose",
            "the heads are right, joining them is not: exchange H and T back before the reshape "
            "to (B, T, D), or pieces of different tokens land in one vector",
            edit(multi_head, *JOIN_STRAIGHT),
        ),
        Mistake(
            "within",
            "T and H are not exchanged before attention: now the heads of one token look at each "
            "other, and no token at another",
            edit(multi_head, CUT, "x.reshape(B, T, heads, D // heads)", *JOIN_STRAIGHT),
        ),
        Mistake(
            "interleaved",
            "a head takes every H-th number: head h owns D/H numbers that stand together, so cut "
            "D to (H, D/H), in this order",
            edit(multi_head, *CUT_INTERLEAVED, *JOIN_INTERLEAVED),
            edit(multi_head, *CUT_INTERLEAVED),
        ),
        Mistake(
            "join_interleaved",
            "the heads are right, and their numbers are shuffled together: head h's D/H numbers "
            "stay side by side in the result",
            edit(multi_head, *JOIN_INTERLEAVED),
        ),
        Mistake(
            "one_head",
            "this is one head as wide as the vector: cut first, so that each piece has its own "
            "softmax",
            edit(
                multi_head,
                "attend(cut(query), cut(key), cut(value))",
                "attend(query, key, value)",
                JOIN,
                "mixed",
            ),
        ),
        Mistake(
            "not_joined",
            "the heads are right, and still apart: put them side by side again, (B, T, D)",
            edit(multi_head, ".transpose(0, 2, 1, 3).reshape(B, T, D)", ""),
        ),
    ),
)


# --- LayerNorm --------------------------------------------------------------------------------


def norm_cases(generator: np.random.Generator) -> list[Case]:
    """Include an epsilon so large that its place shows, and a token whose numbers are all equal."""
    cases = []
    for name, (B, T, D), epsilon in (
        ("two texts of three tokens", (2, 3, 4), 1e-12),
        ("one text of five tokens", (1, 5, 8), 1e-5),
        ("a large epsilon", (2, 2, 5), 0.5),
        ("a token whose numbers are all equal", (1, 2, 4), 1e-5),
    ):
        x = generator.normal(1.5, 2.0, (B, T, D))
        if "equal" in name:
            x[0, 1] = generator.integers(1, 9)
        weight, bias = generator.uniform(0.5, 2, D), generator.normal(0, 1, D)
        cases.append(Case(name, {"x": x, "weight": weight, "bias": bias, "epsilon": epsilon}))
    return cases


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """Normalise each token's D numbers, then scale and shift them."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True, ddof=0)
    plain = (x - mean) / np.sqrt(variance + epsilon)
    return plain * weight + bias


def norm_over(axis: str) -> Any:
    """Return LayerNorm over other axes, as they are written."""
    means = ("x.mean(axis=-1", f"x.mean(axis={axis}")
    return edit(layer_norm, *means, "x.var(axis=-1", f"x.var(axis={axis}")


NORM = Item(
    name="03.layer_norm",
    title="LayerNorm",
    **Rating(difficulty=1, importance=4, minutes=10, points=2),
    cases=norm_cases,
    reference=layer_norm,
    withheld=("course_utils.blocks.LayerNorm", "torch.nn.functional.layer_norm"),
    diagnoses=(
        Mistake(
            "sample_variance",
            "the variance divides by D - 1: LayerNorm's divides by D",
            edit(layer_norm, "ddof=0", "ddof=1"),
        ),
        Mistake(
            "over_tokens",
            "mean and variance are taken over all tokens of a text: every token is normalised by "
            "itself, over its D numbers (the last axis)",
            norm_over("(1, 2)"),
        ),
        Mistake(
            "over_token_axis",
            "mean and variance are taken over the T tokens: take them over the D numbers of each "
            "token (the last axis)",
            norm_over("1"),
        ),
        Mistake(
            "over_batch",
            "mean and variance are taken over the batch: that is batch norm. Take the last axis",
            norm_over("0"),
        ),
        Mistake(
            "one_mean",
            "one mean and one variance for everything: every token has its own, over its D "
            "numbers (the last axis)",
            norm_over("None"),
        ),
        Mistake(
            "epsilon_outside",
            "epsilon is added to the standard deviation: it belongs to the variance, under the "
            "root",
            edit(layer_norm, "np.sqrt(variance + epsilon)", "(np.sqrt(variance) + epsilon)"),
        ),
        Mistake(
            "no_epsilon",
            "epsilon is not used: a token whose numbers are all equal has variance 0, and 0/0 is "
            "nan",
            edit(layer_norm, "variance + epsilon", "variance"),
        ),
        Mistake(
            "no_root",
            "divided by the variance: the root of it is the standard deviation",
            edit(layer_norm, "np.sqrt", ""),
        ),
        Mistake("not_centred", "the mean is not subtracted", edit(layer_norm, "(x - mean)", "x")),
        Mistake(
            "nothing_learned",
            "normalised, and the learned part is missing: times `weight`, plus `bias`",
            edit(layer_norm, "plain * weight + bias", "plain"),
        ),
        Mistake("no_scale", "`weight` is not used", edit(layer_norm, " * weight", "")),
        Mistake("no_shift", "`bias` is not added", edit(layer_norm, " + bias", "")),
        Mistake(
            "bias_scaled",
            "the bias is scaled too: first times `weight`, then plus `bias`",
            edit(layer_norm, "plain * weight + bias", "(plain + bias) * weight"),
        ),
        Mistake(
            "changed_input",
            "right, but `x` is changed in place, and the residual connection still needs it: "
            "write x - mean, not x -= mean",
            edit(layer_norm, "    plain = (x - mean)", "    x -= mean\n    plain = x"),
        ),
    ),
)


# --- counting parameters ----------------------------------------------------------------------


def count_cases(generator: np.random.Generator) -> list[Case]:
    """Two known models, and some whose numbers stand in no usual relation."""
    names = ["vocab_size", "max_tokens", "segments", "hidden_size", "heads"]
    names += ["layers", "feed_forward_size"]
    sizes = {
        "the encoder of this course": (30522, 512, 2, 384, 12, 6, 1536),
        "BERT-base": (30522, 512, 2, 768, 12, 12, 3072),
    }
    for name in ("a tiny model", "another tiny model"):
        V, P, S, width, H, L, F = generator.integers(
            (50, 8, 2, 2, 2, 2, 11), (90, 30, 5, 6, 5, 5, 40)
        ).tolist()
        sizes[name] = (V, P, S, width * H, H, L, F)
    return [Case(name, dict(zip(names, numbers, strict=True))) for name, numbers in sizes.items()]


def bert_parameters(V: int, P: int, S: int, D: int, H: int, L: int, F: int) -> int:
    """Add up three tables, the blocks and the pooler; H makes no difference."""

    def linear(rows: int, columns: int) -> int:
        return rows * columns + columns

    norm = 2 * D
    embeddings = (V + P + S) * D + norm
    block = 4 * linear(D, D) + linear(D, F) + linear(F, D) + 2 * norm
    pooler = linear(D, D)
    return embeddings + L * block + pooler


NO_BIASES = ("rows * columns + columns", "rows * columns")
NO_BLOCK_NORMS = (" + 2 * norm", "")


COUNT = Item(
    name="03.bert_parameters",
    title="How many numbers does a BERT have?",
    **Rating(difficulty=2, importance=3, minutes=15, points=2),
    cases=count_cases,
    reference=bert_parameters,
    rtol=1e-9,
    withheld=("course_utils.models.count_parameters",),
    diagnoses=(
        Mistake(
            "matrices_only",
            "these are the matrices and tables alone: biases and LayerNorms have parameters too",
            edit(bert_parameters, *NO_BIASES, "norm = 2 * D", "norm = 0"),
        ),
        Mistake(
            "no_biases",
            "the biases are missing: a linear layer from m to n has mn + n parameters",
            edit(bert_parameters, *NO_BIASES),
        ),
        Mistake(
            "no_norms",
            "the LayerNorms are missing: each has a scale and a shift, 2D parameters",
            edit(bert_parameters, "norm = 2 * D", "norm = 0"),
        ),
        Mistake(
            "norms_of_blocks",
            "the blocks' LayerNorms are missing: two in each block, 2D parameters each",
            edit(bert_parameters, *NO_BLOCK_NORMS),
        ),
        Mistake(
            "one_norm",
            "a block has two LayerNorms, one after each part",
            edit(bert_parameters, "2 * norm", "norm"),
        ),
        Mistake(
            "half_norms",
            "a LayerNorm has 2D parameters: a scale and a shift",
            edit(bert_parameters, "norm = 2 * D", "norm = D"),
        ),
        Mistake(
            "no_embedding_norm",
            "the LayerNorm after the embeddings is missing: 2D more",
            edit(bert_parameters, "* D + norm", "* D"),
        ),
        Mistake(
            "words_only",
            "places and segments have tables too, with a row of D numbers each",
            edit(bert_parameters, "(V + P + S)", "V"),
        ),
        Mistake(
            "three_maps",
            "attention has four maps: query, key, value, and the output that mixes the heads",
            edit(bert_parameters, "4 * linear", "3 * linear"),
        ),
        Mistake(
            "per_head",
            "the number of heads plays no part: they share the vector, and D × D stays D × D",
            edit(bert_parameters, "4 * linear", "4 * H * linear"),
        ),
        Mistake(
            "feed_forward_assumed",
            "right only where F = 4D: use `feed_forward_size`",
            edit(
                bert_parameters,
                "linear(D, F) + linear(F, D)",
                "linear(D, 4 * D) + linear(4 * D, D)",
            ),
        ),
        Mistake(
            "one_block",
            "only one block is counted: there are L of them",
            edit(bert_parameters, "L * block", "block"),
        ),
        Mistake(
            "no_pooler",
            "the pooler is missing: a linear layer from D to D after the last block",
            edit(bert_parameters, "pooler = linear(D, D)", "pooler = 0"),
        ),
        Symptom(
            "other_count",
            "not the right number, and not one that is left when a single thing is forgotten: "
            "work out tables, one block and pooler apart, and compare each with the lesson's table",
            rules.another_count,
        ),
    ),
)


# --- bug hunt: a block ------------------------------------------------------------------------


def block_cases(generator: np.random.Generator) -> list[Case]:
    """With and without padding, all dimensions different."""
    cases = []
    for name, (B, T, D, heads), lengths in (
        ("two texts, no padding", (2, 4, 6, 2), (4, 4)),
        ("three texts, two of them padded", (3, 5, 8, 4), (5, 3, 2)),
        ("one text, one head", (1, 3, 4, 1), (3,)),
    ):
        shapes = dict.fromkeys(("query", "key", "value", "output"), (D, D))
        shapes |= {"expand": (D, 4 * D), "contract": (4 * D, D)}
        weights = {
            part: Tensor(generator.normal(0, 1.3 / math.sqrt(m), (m, n)).astype(np.float32))
            for part, (m, n) in shapes.items()
        }
        mask = (np.arange(T) < np.array(lengths)[:, None]).astype(np.int64)
        x = generator.normal(0, 1, (B, T, D)).astype(np.float32)
        inputs = {"x": Tensor(x), "mask": Tensor(mask), "weights": weights, "heads": heads}
        cases.append(Case(name, inputs))
    return cases


def block(x: Any, mask: Any, weights: dict[str, Any], heads: int) -> Any:
    """Return attention, then a feed-forward part, a residual connection and a norm around each."""
    import torch
    from torch.nn.functional import gelu, layer_norm

    B, T, D = x.shape
    query, key, value = (
        (x @ weights[part]).view(B, T, heads, D // heads).transpose(1, 2)
        for part in ("query", "key", "value")
    )  # (B, H, T, D/H)
    scores = query @ key.transpose(-2, -1) / math.sqrt(D // heads)
    padding = mask[:, None, None, :] == 0  # (B, 1, 1, T)
    scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
    shares = scores.softmax(dim=-1)  # (B, H, T, T)
    joined = (shares @ value).transpose(1, 2).flatten(2)  # (B, T, D)
    first = layer_norm(x + joined @ weights["output"], (D,))
    second = gelu(first @ weights["expand"]) @ weights["contract"]
    return layer_norm(first + second, (D,))


BLOCK = Item(
    name="03.block",
    title="Bug hunt: a block that mixes everything, badly",
    **Rating(difficulty=3, importance=5, minutes=25, points=4),
    cases=block_cases,
    reference=block,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=remaining(
        block,
        {
            "axis": (
                "softmax runs over the queries: each row must sum to 1 over its keys, the last "
                "dimension",
                *("dim=-1", "dim=-2"),
            ),
            "late": (
                "the mask comes after softmax: what is left of a row no longer sums to 1. Forbid "
                "the scores, before softmax",
                *("scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)", "pass"),
                *("(shares @", "(shares.masked_fill(padding, 0) @"),
            ),
            "scale": (
                "the scores are divided by the root of D: a query of one head has only D/H numbers",
                *("sqrt(D // heads)", "sqrt(D)"),
            ),
            "residual": (
                "the second residual connection starts at the block's input: it goes around the "
                "feed-forward part alone, so it starts where that part starts",
                *("first + second", "x + second"),
            ),
        },
    ),
)

ITEMS = (ATTENTION, HEADS, NORM, COUNT, BLOCK)
