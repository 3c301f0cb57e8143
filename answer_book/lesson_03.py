"""Items of lesson 03: attention, heads, LayerNorm and parameters by hand; and a broken block."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from answer_book.lesson_01 import softmax
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Symptom
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


def _attention(
    divide: Callable[[int, int], float] = lambda T, d: math.sqrt(d),
    mask_as: str = "forbidden",
    axis: int = 1,
    stable: bool = True,
) -> Callable[..., np.ndarray]:
    """Return attention, right unless told otherwise."""

    def attention(
        query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        scores = query @ key.T / divide(*query.shape)  # (T, T)
        if mask_as == "forbidden":
            scores = np.where(mask == 1, scores, -np.inf)
        elif mask_as == "inverted":
            scores = np.where(mask == 1, -1e9, scores)
        elif mask_as == "rows":
            scores = np.where(mask[:, None] == 1, scores, -1e9)
        elif mask_as == "rows_infinite":
            scores = np.where(mask[:, None] == 1, scores, -np.inf)
        elif mask_as == "zero_scores":
            scores = scores * mask
        elif mask_as == "added":
            scores = scores + mask
        elif mask_as == "times_infinity":
            scores = scores + (1 - mask) * -np.inf
        if axis == 0 and mask_as == "forbidden":
            scores = np.maximum(scores, -1e9)  # a column with -inf only would be nan
        if stable:
            weights = softmax(scores, axis=axis)
        else:
            weights = np.exp(scores) / np.exp(scores).sum(axis=axis, keepdims=True)
        return (weights * mask if mask_as == "late" else weights) @ value

    return attention


def attention_transposed(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    return _attention()(key, query, value, mask)


def attention_weights_only(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    return _attention()(query, key, np.eye(len(mask)), mask)


ATTENTION = Item(
    name="03.attention",
    title="Attention with a mask",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=attention_cases,
    reference=_attention(),
    diagnoses=(
        Mistake(
            "no_scale",
            "the scores are not divided by √d, so softmax is more decided than it should be",
            _attention(lambda T, d: 1.0),
        ),
        Mistake(
            "scale_without_root",
            "the scores are divided by d: their standard deviation is the root of d",
            _attention(lambda T, d: d),
        ),
        Mistake(
            "scale_of_tokens",
            "divided by the root of T: what counts is d, the length of a query "
            "(its last dimension)",
            _attention(lambda T, d: math.sqrt(T)),
        ),
        Mistake(
            "wrong_axis",
            "softmax is taken over the queries: each query distributes its attention over the "
            "keys, so every row must sum to 1",
            _attention(axis=0),
        ),
        Mistake(
            "late_mask",
            "the mask comes after softmax: the weights left over no longer sum to 1. Mask the "
            "scores, before softmax",
            _attention(mask_as="late"),
        ),
        Mistake(
            "zero_scores",
            "a score of 0 is not forbidden: its weight is e⁰ = 1 before it is normalised. "
            "Use a very low score",
            _attention(mask_as="zero_scores"),
        ),
        Mistake(
            "mask_added",
            "the mask is added to the scores as 0 and 1: that forbids nothing. A forbidden score "
            "is replaced by a very low one",
            _attention(mask_as="added"),
        ),
        Mistake(
            "zero_times_infinity",
            "everything is nan, because 0 · ∞ is: choose between two scores (np.where), or use a "
            "very low finite number",
            _attention(mask_as="times_infinity"),
        ),
        Mistake(
            "no_scale_no_mask",
            "two things are missing: the division by √d, and the mask",
            _attention(lambda T, d: 1.0, mask_as=""),
        ),
        Mistake(
            "no_scale_late_mask",
            "two things. The scores are not divided by √d. And the mask comes after softmax: the "
            "weights left over no longer sum to 1",
            _attention(lambda T, d: 1.0, mask_as="late"),
        ),
        Mistake(
            "no_scale_wrong_axis",
            "two things. The scores are not divided by √d. And softmax is taken over the queries: "
            "every row must sum to 1",
            _attention(lambda T, d: 1.0, axis=0),
        ),
        Mistake(
            "wrong_axis_no_mask",
            "two things. Softmax is taken over the queries: every row must sum to 1. And the mask "
            "is not used",
            _attention(mask_as="", axis=0),
        ),
        Mistake("no_mask", "padding is listened to: `mask` is not used", _attention(mask_as="")),
        Mistake(
            "mask_inverted",
            "the mask is the wrong way round: 1 is a token, 0 is padding",
            _attention(mask_as="inverted"),
        ),
        Mistake(
            "mask_on_queries",
            "the mask forbids rows, the ones who ask: it belongs to the columns, the keys",
            _attention(mask_as="rows"),
        ),
        Mistake(
            "mask_on_queries",
            "the mask forbids rows, the ones who ask, and a row of -∞ alone gives nan: it belongs "
            "to the columns, the keys",
            _attention(mask_as="rows_infinite"),
        ),
        Mistake(
            "unstable",
            "right for small scores, nan for large ones: subtract each row's maximum before exp",
            _attention(stable=False),
        ),
        Mistake(
            "asked_and_asking",
            "queries and keys are exchanged: row i of the scores belongs to query i",
            attention_transposed,
        ),
        Mistake(
            "weights_only",
            "these are the weights: with them the values are still to be mixed",
            attention_weights_only,
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


def _multi_head(split: str = "right", join: str = "right") -> Callable[..., np.ndarray]:
    """Return attention in heads, right unless told otherwise."""

    def multi_head(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
        B, T, D = query.shape

        def cut(x: np.ndarray) -> np.ndarray:
            if split == "no_transpose":
                return x.reshape(B, heads, T, D // heads)
            if split == "interleaved":
                return x.reshape(B, T, D // heads, heads).transpose(0, 3, 1, 2)
            if split == "within":
                return x.reshape(B, T, heads, D // heads)
            return x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)

        mixed = attend(cut(query), cut(key), cut(value))
        if join == "interleaved":
            return mixed.transpose(0, 2, 3, 1).reshape(B, T, D)
        if join == "no_transpose":
            return mixed.reshape(B, T, D)
        return mixed.transpose(0, 2, 1, 3).reshape(B, T, D)

    return multi_head


def one_head(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    return attend(query, key, value)


def heads_not_joined(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int
) -> np.ndarray:
    B, T, D = query.shape
    joined = _multi_head()(query, key, value, heads)
    return joined.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)


HEADS = Item(
    name="03.multi_head",
    title="Many heads, one vector",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=head_cases,
    reference=_multi_head(),
    diagnoses=(
        Mistake(
            "both_transposes",
            "the shapes fit and the contents do not: (B, T, D) is cut to (B, T, H, D/H), and only "
            "a transpose makes (B, H, T, D/H) of that. The same on the way back",
            _multi_head("no_transpose", "no_transpose"),
        ),
        Mistake(
            "split_transpose",
            "a reshape straight to (B, H, T, D/H) cuts through tokens: cut D first, to "
            "(B, T, H, D/H), then exchange T and H",
            _multi_head("no_transpose", "right"),
        ),
        Mistake(
            "join_transpose",
            "the heads are right, joining them is not: exchange H and T back before the reshape "
            "to (B, T, D), or pieces of different tokens land in one vector",
            _multi_head("right", "no_transpose"),
        ),
        Mistake(
            "within",
            "T and H are not exchanged before attention: now the heads of one token look at each "
            "other, and no token at another",
            _multi_head("within", "no_transpose"),
        ),
        Mistake(
            "interleaved",
            "a head takes every H-th number: head h owns D/H numbers that stand together, so cut "
            "D to (H, D/H), in this order",
            _multi_head("interleaved", "interleaved"),
        ),
        Mistake(
            "interleaved",
            "a head takes every H-th number: head h owns D/H numbers that stand together, so cut "
            "D to (H, D/H), in this order",
            _multi_head("interleaved", "right"),
        ),
        Mistake(
            "join_interleaved",
            "the heads are right, and their numbers are shuffled together: head h's D/H numbers "
            "stay side by side in the result",
            _multi_head("right", "interleaved"),
        ),
        Mistake(
            "one_head",
            "this is one head as wide as the vector: cut first, so that each piece has its own "
            "softmax",
            one_head,
        ),
        Mistake(
            "not_joined",
            "the heads are right, and still apart: put them side by side again, (B, T, D)",
            heads_not_joined,
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


def _layer_norm(
    axis: int | tuple[int, ...] | None = -1,
    correction: int = 0,
    divisor: str = "right",
    centre: bool = True,
    scale: bool = True,
    shift: bool = True,
) -> Callable[..., np.ndarray]:
    """Return LayerNorm, right unless told otherwise."""

    def layer_norm(
        x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
    ) -> np.ndarray:
        variance = x.var(axis=axis, keepdims=True, ddof=correction)
        divide = {
            "right": np.sqrt(variance + epsilon),
            "outside": np.sqrt(variance) + epsilon,
            "no_epsilon": np.sqrt(variance),
            "no_root": variance + epsilon,
        }[divisor]
        plain = (x - x.mean(axis=axis, keepdims=True) if centre else x) / divide
        return (plain * weight if scale else plain) + (bias if shift else 0)

    return layer_norm


def norm_bias_scaled(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> np.ndarray:
    return (_layer_norm(scale=False, shift=False)(x, weight, bias, epsilon) + bias) * weight


def norm_in_place(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> np.ndarray:
    right = _layer_norm()(x, weight, bias, epsilon)
    x -= x.mean(axis=-1, keepdims=True)
    return right


NORM = Item(
    name="03.layer_norm",
    title="LayerNorm",
    difficulty=1,
    importance=4,
    minutes=10,
    points=2,
    cases=norm_cases,
    reference=_layer_norm(),
    diagnoses=(
        Mistake(
            "sample_variance",
            "the variance divides by D - 1: LayerNorm's divides by D",
            _layer_norm(correction=1),
        ),
        Mistake(
            "over_tokens",
            "mean and variance are taken over all tokens of a text: every token is normalised by "
            "itself, over its D numbers (the last axis)",
            _layer_norm(axis=(1, 2)),
        ),
        Mistake(
            "over_token_axis",
            "mean and variance are taken over the T tokens: take them over the D numbers of each "
            "token (the last axis)",
            _layer_norm(axis=1),
        ),
        Mistake(
            "over_batch",
            "mean and variance are taken over the batch: that is batch norm. Take the last axis",
            _layer_norm(axis=0),
        ),
        Mistake(
            "one_mean",
            "one mean and one variance for everything: every token has its own, over its D "
            "numbers (the last axis)",
            _layer_norm(axis=None),
        ),
        Mistake(
            "epsilon_outside",
            "epsilon is added to the standard deviation: it belongs to the variance, under the "
            "root",
            _layer_norm(divisor="outside"),
        ),
        Mistake(
            "no_epsilon",
            "epsilon is not used: a token whose numbers are all equal has variance 0, and 0/0 is "
            "nan",
            _layer_norm(divisor="no_epsilon"),
        ),
        Mistake(
            "no_root",
            "divided by the variance: the root of it is the standard deviation",
            _layer_norm(divisor="no_root"),
        ),
        Mistake("not_centred", "the mean is not subtracted", _layer_norm(centre=False)),
        Mistake(
            "nothing_learned",
            "normalised, and the learned part is missing: times `weight`, plus `bias`",
            _layer_norm(scale=False, shift=False),
        ),
        Mistake("no_scale", "`weight` is not used", _layer_norm(scale=False)),
        Mistake("no_shift", "`bias` is not added", _layer_norm(shift=False)),
        Mistake(
            "bias_scaled",
            "the bias is scaled too: first times `weight`, then plus `bias`",
            norm_bias_scaled,
        ),
        Mistake(
            "changed_input",
            "right, but `x` is changed in place, and the residual connection still needs it: "
            "write x - mean, not x -= mean",
            norm_in_place,
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


def _count(
    *,
    tables: bool = True,  # places and segments besides words
    embedding_norm: bool = True,
    biases: bool = True,
    maps: int = 4,  # of attention
    per_head: bool = False,
    norms: int = 2,  # in a block
    norm_size: int = 2,  # vectors in a LayerNorm
    expansion: int = 0,  # F as a multiple of D, if assumed
    all_blocks: bool = True,
    pooler: bool = True,
) -> Callable[..., int]:
    """Return a count of BERT's parameters, right unless told otherwise."""

    def count(V: int, P: int, S: int, D: int, H: int, L: int, F: int) -> int:
        F = expansion * D or F

        def linear(rows: int, columns: int) -> int:
            return rows * columns + (columns if biases else 0)

        embeddings = (V + (P + S if tables else 0)) * D + (norm_size * D if embedding_norm else 0)
        attention = maps * linear(D, D) * (H if per_head else 1)
        block = attention + linear(D, F) + linear(F, D) + norms * norm_size * D
        return embeddings + (L if all_blocks else 1) * block + (linear(D, D) if pooler else 0)

    return count


COUNT = Item(
    name="03.bert_parameters",
    title="How many numbers does a BERT have?",
    difficulty=2,
    importance=3,
    minutes=15,
    points=2,
    cases=count_cases,
    reference=_count(),
    rtol=1e-9,
    diagnoses=(
        Mistake(
            "matrices_only",
            "these are the matrices and tables alone: biases and LayerNorms have parameters too",
            _count(biases=False, norms=0, embedding_norm=False),
        ),
        Mistake(
            "no_biases",
            "the biases are missing: a linear layer from m to n has mn + n parameters",
            _count(biases=False),
        ),
        Mistake(
            "no_norms",
            "the LayerNorms are missing: each has a scale and a shift, 2D parameters",
            _count(norms=0, embedding_norm=False),
        ),
        Mistake(
            "norms_of_blocks",
            "the blocks' LayerNorms are missing: two in each block, 2D parameters each",
            _count(norms=0),
        ),
        Mistake(
            "one_norm",
            "a block has two LayerNorms, one after each part",
            _count(norms=1),
        ),
        Mistake(
            "half_norms",
            "a LayerNorm has 2D parameters: a scale and a shift",
            _count(norm_size=1),
        ),
        Mistake(
            "no_embedding_norm",
            "the LayerNorm after the embeddings is missing: 2D more",
            _count(embedding_norm=False),
        ),
        Mistake(
            "words_only",
            "places and segments have tables too, with a row of D numbers each",
            _count(tables=False),
        ),
        Mistake(
            "three_maps",
            "attention has four maps: query, key, value, and the output that mixes the heads",
            _count(maps=3),
        ),
        Mistake(
            "per_head",
            "the number of heads plays no part: they share the vector, and D × D stays D × D",
            _count(per_head=True),
        ),
        Mistake(
            "feed_forward_assumed",
            "right only where F = 4D: use `feed_forward_size`",
            _count(expansion=4),
        ),
        Mistake(
            "one_block",
            "only one block is counted: there are L of them",
            _count(all_blocks=False),
        ),
        Mistake(
            "no_pooler",
            "the pooler is missing: a linear layer from D to D after the last block",
            _count(pooler=False),
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


def _block(
    axis: bool = False, late: bool = False, scale: bool = False, residual: bool = False
) -> Any:
    """Return a block with some of its four bugs."""

    def block(x: Any, mask: Any, weights: dict[str, Any], heads: int) -> Any:
        import torch
        from torch.nn.functional import gelu, layer_norm

        B, T, D = x.shape
        query, key, value = (
            (x @ weights[part]).view(B, T, heads, D // heads).transpose(1, 2)
            for part in ("query", "key", "value")
        )  # (B, H, T, D/H)
        scores = query @ key.transpose(-2, -1) / math.sqrt(D if scale else D // heads)
        padding = mask[:, None, None, :] == 0  # (B, 1, 1, T)
        if not late:
            scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        shares = scores.softmax(dim=-2 if axis else -1)  # (B, H, T, T)
        if late:
            shares = shares.masked_fill(padding, 0)
        joined = (shares @ value).transpose(1, 2).flatten(2)  # (B, T, D)
        first = layer_norm(x + joined @ weights["output"], (D,))
        second = gelu(first @ weights["expand"]) @ weights["contract"]
        return layer_norm((x if residual else first) + second, (D,))

    return block


BLOCK = Item(
    name="03.block",
    title="Bug hunt: a block that mixes everything, badly",
    difficulty=3,
    importance=5,
    minutes=25,
    points=4,
    cases=block_cases,
    reference=_block(),
    rtol=1e-4,
    atol=1e-5,
    diagnoses=flagged(
        _block,
        {
            "axis": "softmax runs over the queries: each row must sum to 1 over its keys, the "
            "last dimension",
            "late": "the mask comes after softmax: what is left of a row no longer sums to 1. "
            "Forbid the scores, before softmax",
            "scale": "the scores are divided by the root of D: a query of one head has only D/H "
            "numbers",
            "residual": "the second residual connection starts at the block's input: it goes "
            "around the feed-forward part alone, so it starts where that part starts",
        },
    ),
)

ITEMS = (ATTENTION, HEADS, NORM, COUNT, BLOCK)
