"""Items of lesson 04: hidden tokens, next tokens, perplexity, sampling; and a loss too good."""

from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake
from course_utils.grading.wire import Tensor

IGNORED = -100  # the label of a position that is not asked

# --- hidden tokens ----------------------------------------------------------------------------

Pair = tuple[np.ndarray, np.ndarray]


def hide_cases(generator: np.random.Generator) -> list[Case]:
    """Text with special tokens at both ends and padding, and dice already thrown."""
    cases = []
    for B, T, share in ((12, 40, 0.15), (6, 50, 0.4), (2, 9, 1.0)):
        ids = generator.integers(5, 500, (B, T))
        ids[:, 0], ids[:, -1] = 2, 3
        ids[B // 2 :, -4], ids[B // 2 :, -3:] = 3, 0
        dice = {name: generator.random((B, T)) for name in ("choice", "fate")}
        strangers = generator.integers(0, 500, (B, T))
        inputs: dict[str, Any] = {"input_ids": ids, "special": ids < 5}  # in the answer's order
        inputs |= dice | {"strangers": strangers, "share": share, "mask_id": 4}
        cases.append(Case(f"{B} texts of {T} tokens, a share of {share:g}", inputs))
    return cases


def _hider(
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda chosen, fate: chosen,
    spares_special: bool = True,
    everywhere: bool = False,
    edges: tuple[float, float] = (0.8, 0.9),
) -> Callable[..., Pair]:
    """Return the answer, or one of its typical mistakes."""

    def hide_tokens(
        input_ids: np.ndarray,
        special: np.ndarray,
        choice: np.ndarray,
        fate: np.ndarray,
        strangers: np.ndarray,
        share: float,
        mask_id: int,
    ) -> Pair:
        chosen = (choice < share) & ~(special & spares_special)
        disguised = np.ones_like(chosen) if everywhere else chosen
        shown = np.where(disguised & (fate < edges[0]), mask_id, input_ids)
        shown = np.where(disguised & (fate >= edges[0]) & (fate < edges[1]), strangers, shown)
        return shown, np.where(ask(chosen, fate), input_ids, IGNORED)

    return hide_tokens


hide_tokens = _hider()


def hide_label_of_shown(*inputs: Any) -> Pair:
    shown, labels = hide_tokens(*inputs)
    return shown, np.where(labels == IGNORED, IGNORED, shown)


def hide_in_place(input_ids: np.ndarray, *inputs: Any) -> Pair:
    shown, labels = hide_tokens(input_ids, *inputs)
    input_ids[:] = shown
    return input_ids, labels


HIDE = Item(
    name="04.hide_tokens",
    title="Hide tokens, and remember what they were",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=hide_cases,
    reference=hide_tokens,
    withheld=("course_utils.pretraining.ask_hidden",),
    diagnoses=(
        Mistake(
            "special_asked",
            "special tokens are asked too: [CLS], [SEP] and padding carry no language, and "
            "answering them is easy marks",
            _hider(spares_special=False),
        ),
        Mistake(
            "everything_asked",
            "every position has its token as label: a position that is not asked gets -100, or "
            "the model is paid for copying what it sees",
            _hider(ask=lambda chosen, fate: np.ones_like(chosen)),
        ),
        Mistake(
            "label_of_disguise",
            "the labels are taken after the tokens were disguised: the right answer would be "
            "[MASK]. Take them from the original",
            hide_label_of_shown,
        ),
        Mistake(
            "kept_not_asked",
            "the chosen tokens that stay as they are must be asked as well: that is what they "
            "were chosen for",
            _hider(ask=lambda chosen, fate: chosen & (fate < 0.9)),
        ),
        Mistake(
            "only_masks_asked",
            "only the positions that show [MASK] are asked: strangers and kept tokens are "
            "questions too",
            _hider(ask=lambda chosen, fate: chosen & (fate < 0.8)),
        ),
        Mistake(
            "always_mask",
            "every chosen token becomes [MASK]: one in ten is to become a stranger, and one in "
            "ten to stay",
            _hider(edges=(1.0, 1.0)),
        ),
        Mistake(
            "none_kept",
            "no chosen token stays as it is: from a fate of 0.9 on it should",
            _hider(edges=(0.8, 1.0)),
        ),
        Mistake(
            "no_strangers",
            "no chosen token becomes a stranger: with a fate from 0.8 to below 0.9 it should",
            _hider(edges=(0.8, 0.8)),
        ),
        Mistake(
            "only_masks",
            "only [MASK] is shown and asked: the chosen tokens that become a stranger or stay as "
            "they are are questions too",
            _hider(ask=lambda chosen, fate: chosen & (fate < 0.8), edges=(0.8, 0.8)),
        ),
        Mistake(
            "all_disguised",
            "tokens that were not chosen are disguised too: `fate` decides only about the chosen",
            _hider(everywhere=True),
        ),
        Mistake(
            "upside_down",
            "the labels are upside down: -100 belongs where nothing is asked",
            _hider(ask=lambda chosen, fate: ~chosen),
        ),
        Mistake(
            "changed_input",
            "right, but `input_ids` is changed in place, and the next epoch needs the text again: "
            "work on a copy",
            hide_in_place,
        ),
    ),
)


# --- next tokens ------------------------------------------------------------------------------


def next_cases(generator: np.random.Generator) -> list[Case]:
    """Texts of unequal length, padded on the right."""
    cases = []
    for B, T in ((1, 6), (4, 9), (7, 12)):
        lengths = generator.integers(3, T, B)
        lengths[0] = T
        mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
        ids = generator.integers(5, 300, (B, T)) * mask
        ids[:, 0] = 2
        ids[np.arange(B), lengths - 1] = 3
        cases.append(Case(f"{B} texts of up to {T} tokens", {"input_ids": ids, "mask": mask}))
    return cases


def _shifted(input_ids: np.ndarray) -> np.ndarray:
    labels = np.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
    return labels


def next_labels(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Return at each place the token after it, where there is one."""
    labels = _shifted(input_ids)
    labels[:, :-1][attention_mask[:, 1:] == 0] = IGNORED
    return labels


def next_unshifted(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    return np.where(attention_mask == 1, input_ids, IGNORED)


def next_backwards(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    labels = np.full_like(input_ids, IGNORED)
    labels[:, 1:] = input_ids[:, :-1]
    return np.where(attention_mask == 1, labels, IGNORED)


def next_padding_asked(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    return _shifted(input_ids)


def next_one_padding(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    return np.where(attention_mask == 1, _shifted(input_ids), IGNORED)


def next_wraps(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    labels = next_labels(input_ids, attention_mask)
    labels[:, -1] = input_ids[:, 0]
    return labels


def next_wraps_and_pads(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    return np.roll(input_ids, -1, axis=1)


def next_shorter(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    return next_labels(input_ids, attention_mask)[:, :-1]


def next_end_forgotten(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    labels = next_labels(input_ids, attention_mask)
    return np.where(labels == 3, IGNORED, labels)


NEXT = Item(
    name="04.next_labels",
    title="The text, moved by one",
    difficulty=2,
    importance=5,
    minutes=10,
    points=2,
    cases=next_cases,
    reference=next_labels,
    withheld=("course_utils.pretraining.ask_next",),
    diagnoses=(
        Mistake(
            "not_shifted",
            "the label at a position is the token that stands there, which the model can see: it "
            "would learn to copy. Move the text by one",
            next_unshifted,
        ),
        Mistake(
            "backwards",
            "moved the wrong way: this asks for the token before, which the model has already seen",
            next_backwards,
        ),
        Mistake(
            "wraps_around",
            "np.roll puts the first token after the last one, and padding is asked for as well: "
            "both are -100",
            next_wraps_and_pads,
        ),
        Mistake(
            "wraps_around",
            "the last position asks for the first token: nothing follows it, so its label is -100",
            next_wraps,
        ),
        Mistake(
            "padding_asked",
            "moved rightly, but padding is asked for: a label is -100 where padding follows",
            next_padding_asked,
        ),
        Mistake(
            "one_padding_asked",
            "after [SEP], one padding token is still asked for: look at the mask of the token that "
            "follows, not at that of the position itself",
            next_one_padding,
        ),
        Mistake(
            "shorter",
            "right, but one column short: give the last position a label too, -100",
            next_shorter,
        ),
        Mistake(
            "end_forgotten",
            "[SEP] is never asked for: then the model never learns to stop",
            next_end_forgotten,
        ),
    ),
)


# --- perplexity -------------------------------------------------------------------------------


def perplexity_cases(generator: np.random.Generator) -> list[Case]:
    """Batches with very different numbers of questions, and one with none."""
    cases = []
    for name, sizes, shares, size in (
        ("one batch", [(2, 6)], [0.5], 1.0),
        ("two unequal batches", [(1, 4), (5, 9)], [0.5, 0.6], 2.0),
        ("a batch without a question", [(3, 5), (2, 4)], [0.5, 0.0], 1.0),
        ("logits of up to a thousand", [(2, 5), (3, 5)], [0.4, 0.8], 1.0),
    ):
        batches = []
        offset = 1000.0 if "thousand" in name else 0.0
        for (B, T), share in zip(sizes, shares, strict=True):
            asked = generator.random((B, T)) < share
            asked[0, 0] = share > 0
            labels = np.where(asked, generator.integers(0, 120, (B, T)), IGNORED)
            logits = generator.normal(0, size, (B, T, 120)) + offset
            size = size + 1  # later batches are harder: an unweighted mean is another number
            batches.append({"logits": logits, "labels": labels})
        cases.append(Case(name, {"batches": batches}))
    return cases


Batches = list[dict[str, np.ndarray]]


def _losses(logits: np.ndarray, labels: np.ndarray, stable: bool = True) -> np.ndarray:
    """Return -log p of each label, shape (B, T); a label of -100 counts from the end."""
    m = logits.max(axis=-1, keepdims=True) if stable else 0.0
    log_p = logits - m - np.log(np.exp(logits - m).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, labels[..., None] % logits.shape[-1], axis=-1)[..., 0]


def _totals(batches: Batches, stable: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return each batch's summed loss and its number of questions."""
    sums, counts = [], []
    for batch in batches:
        asked = batch["labels"] != IGNORED
        sums.append(_losses(batch["logits"], batch["labels"], stable)[asked].sum())
        counts.append(asked.sum())
    return np.array(sums), np.array(counts)


def perplexity(batches: Batches) -> float:
    """Return exp of the mean over all questions of all batches."""
    sums, counts = _totals(batches)
    return float(np.exp(sums.sum() / counts.sum()))


def perplexity_of_batches(batches: Batches) -> float:
    sums, counts = _totals(batches)
    return float(np.exp((sums / counts).mean()))


def perplexity_of_batches_with_questions(batches: Batches) -> float:
    sums, counts = _totals(batches)
    return float(np.exp((sums[counts > 0] / counts[counts > 0]).mean()))


def perplexity_averaged(batches: Batches) -> float:
    sums, counts = _totals(batches)
    found = np.exp(sums[counts > 0] / counts[counts > 0])
    return float(found.mean())


def perplexity_averaged_by_tokens(batches: Batches) -> float:
    sums, counts = _totals(batches)
    found = np.exp(sums[counts > 0] / counts[counts > 0])
    return float((found * counts[counts > 0]).sum() / counts.sum())


def perplexity_counts_ignored(batches: Batches) -> float:
    losses = [_losses(b["logits"], b["labels"]).ravel() for b in batches]
    return float(np.exp(np.concatenate(losses).mean()))


def perplexity_divides_by_positions(batches: Batches) -> float:
    sums, _ = _totals(batches)
    return float(np.exp(sums.sum() / sum(b["labels"].size for b in batches)))


def perplexity_is_the_loss(batches: Batches) -> float:
    return float(np.log(perplexity(batches)))


def perplexity_base_two(batches: Batches) -> float:
    return float(2 ** np.log(perplexity(batches)))


def perplexity_unstable(batches: Batches) -> float:
    sums, counts = _totals(batches, stable=False)
    return float(np.exp(sums.sum() / counts.sum()))


PERPLEXITY = Item(
    name="04.perplexity",
    title="Perplexity over unequal batches",
    difficulty=3,
    importance=5,
    minutes=15,
    points=3,
    cases=perplexity_cases,
    reference=perplexity,
    withheld=("course_utils.pretraining.perplexity",),
    diagnoses=(
        Mistake(
            "mean_of_batches",
            "a mean over batches: a question in a small batch counts more than one in a large "
            "batch, and a batch without questions gives nan. Sum over all, then divide once",
            perplexity_of_batches,
        ),
        Mistake(
            "mean_of_batches",
            "a mean over batches: a question in a small batch counts more than one in a large "
            "batch. Sum over all, then divide once",
            perplexity_of_batches_with_questions,
        ),
        Mistake(
            "mean_of_perplexities",
            "perplexities are averaged: average the losses over all questions, and take exp at "
            "the very end",
            perplexity_averaged,
        ),
        Mistake(
            "mean_of_perplexities",
            "perplexities are averaged, weighted by questions: average the losses instead, and "
            "take exp at the very end",
            perplexity_averaged_by_tokens,
        ),
        Mistake(
            "ignored_counted",
            "positions with label -100 are counted: NumPy takes -100 as an index from the end, "
            "and says nothing",
            perplexity_counts_ignored,
        ),
        Mistake(
            "divided_by_positions",
            "divided by the number of positions: only the questions count, labels other than -100",
            perplexity_divides_by_positions,
        ),
        Mistake(
            "no_exp",
            "this is the mean loss: perplexity is its exponential",
            perplexity_is_the_loss,
        ),
        Mistake(
            "base_two",
            "2 to the power of a loss in natural logarithms: the base must be that of the "
            "logarithm, e",
            perplexity_base_two,
        ),
        Mistake(
            "unstable",
            "right for small logits, not a number for large ones: subtract each row's maximum "
            "before exp",
            perplexity_unstable,
        ),
    ),
)


# --- sampling ---------------------------------------------------------------------------------


def chances_cases(generator: np.random.Generator) -> list[Case]:
    """Warm, cold and neutral, few and many tokens left, and logits that overflow."""
    cases = []
    for V, temperature, k in ((12, 1.0, 5), (30, 0.5, 8), (30, 1.7, 3), (9, 0.8, 9)):
        logits = generator.normal(0, 2, V)
        banned = np.sort(generator.choice(V, 2, replace=False))
        banned[0] = logits.argmax()  # the likeliest is banned: it must not use up a place
        inputs = {"logits": logits, "temperature": temperature, "k": k, "banned": banned}
        cases.append(Case(f"{V} tokens, temperature {temperature:g}, the best {k}", inputs))
    inputs = {"logits": generator.normal(0, 30, 12), "temperature": 0.02, "k": 12}
    return [*cases, Case("very cold", {**inputs, "banned": np.array([3])})]


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def _without(logits: np.ndarray, banned: np.ndarray) -> np.ndarray:
    logits = logits.copy()
    logits[banned] = -np.inf
    return logits


def _best(logits: np.ndarray, k: int) -> np.ndarray:
    """Return the logits with all but the k largest at minus infinity."""
    return np.where(logits >= np.sort(logits)[-k], logits, -np.inf)


def chances(logits: np.ndarray, temperature: float, k: int, banned: np.ndarray) -> np.ndarray:
    """Ban, keep the best k, divide by the temperature, softmax."""
    return _softmax(_best(_without(logits, banned), k) / temperature)


def chances_warm(logits: np.ndarray, temperature: float, k: int, banned: np.ndarray) -> np.ndarray:
    return _softmax(_best(_without(logits, banned), k) * temperature)


def chances_no_temperature(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    return _softmax(_best(_without(logits, banned), k))


def chances_divided(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    return chances_no_temperature(logits, temperature, k, banned) / temperature


def chances_all(logits: np.ndarray, temperature: float, k: int, banned: np.ndarray) -> np.ndarray:
    return _softmax(_without(logits, banned) / temperature)


def chances_ban_late(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    return _softmax(_without(_best(logits, k), banned) / temperature)


def chances_not_banned(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    return _softmax(_best(logits, k) / temperature)


def chances_no_sum(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    kept = _best(_without(logits, banned), k)
    return np.where(np.isfinite(kept), _softmax(_without(logits, banned) / temperature), 0.0)


def chances_zero_logit(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    kept = _best(_without(logits, banned), k)
    return _softmax(np.where(np.isfinite(kept), kept, 0.0) / temperature)


def chances_unstable(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    weights = np.exp(_best(_without(logits, banned), k) / temperature)
    return weights / weights.sum()


def chances_in_place(
    logits: np.ndarray, temperature: float, k: int, banned: np.ndarray
) -> np.ndarray:
    logits[banned] = -np.inf
    return _softmax(_best(logits, k) / temperature)


CHANCES = Item(
    name="04.chances",
    title="What may be written next",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=chances_cases,
    reference=chances,
    diagnoses=(
        Mistake(
            "multiplied",
            "the logits are multiplied by the temperature: divided by it, a low temperature makes "
            "the likely likelier",
            chances_warm,
        ),
        Mistake(
            "divided_late",
            "probabilities are divided by the temperature, and no longer sum to 1: divide the "
            "logits, before softmax",
            chances_divided,
        ),
        Mistake(
            "no_temperature",
            "the temperature changes nothing: divide the logits by it before softmax (dividing "
            "probabilities and making them sum to 1 again undoes itself)",
            chances_no_temperature,
        ),
        Mistake(
            "no_top_k",
            "every token that is not banned may still be drawn: only the best k may",
            chances_all,
        ),
        Mistake(
            "ban_too_late",
            "a banned token uses up one of the k places: ban first, then take the best k",
            chances_ban_late,
        ),
        Mistake(
            "not_banned",
            "the banned tokens can be drawn",
            chances_not_banned,
        ),
        Mistake(
            "does_not_sum_to_one",
            "the chances of the tokens that were dropped are missing, and the rest does not sum to "
            "1: drop before softmax",
            chances_no_sum,
        ),
        Mistake(
            "zero_is_not_never",
            "a logit of 0 is not 'never': it is an ordinary score. Use minus infinity",
            chances_zero_logit,
        ),
        Mistake(
            "unstable",
            "right, except for large logits or a low temperature, where exp overflows: subtract "
            "the maximum first",
            chances_unstable,
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place: work on a copy",
            chances_in_place,
        ),
    ),
)


# --- bug hunt: a loss that is too good --------------------------------------------------------


def loss_cases(generator: np.random.Generator) -> list[Case]:
    """Random tables, texts of unequal length."""
    cases = []
    for B, T, V in ((1, 5, 12), (3, 7, 20), (6, 9, 30)):
        lengths = generator.integers(3, T, B)
        lengths[0] = T - (B == 1)  # some padding, always
        mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
        ids = generator.integers(1, V, (B, T)) * mask
        table = generator.normal(0, 0.7, (V, 8)).astype(np.float32)
        inputs = {"table": Tensor(table), "input_ids": Tensor(ids), "mask": Tensor(mask)}
        cases.append(Case(f"{B} text{'s' * (B > 1)} of up to {T} tokens", inputs))
    return cases


def _loss(peeks: bool = False, copies: bool = False, pads: bool = False) -> Any:
    """Return the loss of a causal language model with some of its three bugs."""

    def language_loss(table: Any, input_ids: Any, attention_mask: Any) -> Any:
        import torch

        T, D = input_ids.shape[1], table.shape[1]
        x = table[input_ids]  # (B, T, D)
        square = torch.ones(T, T, dtype=torch.bool)
        allowed = square.triu() if peeks else square.tril()
        scores = (x @ x.transpose(1, 2) / D**0.5).masked_fill(~allowed, -torch.inf)
        logits = scores.softmax(dim=-1) @ x @ table.T  # (B, T, V)
        first = 0 if copies else 1
        logits, labels = logits[:, : T - first], input_ids[:, first:]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        weights = attention_mask[:, first:].float()
        weights = torch.ones_like(weights) if pads else weights
        return (losses * weights).sum() / weights.sum()

    return language_loss


LEFT = {
    "peeks": "a token may look at what comes after it: the causal mask is the lower triangle",
    "copies": "each position is asked for its own token: the answers must be moved by one",
    "pads": "padding is counted in the mean: leave out every answer that is padding",
}

LOSS = Item(
    name="04.language_loss",
    title="Bug hunt: a loss that is too good",
    difficulty=4,
    importance=5,
    minutes=20,
    points=3,
    cases=loss_cases,
    reference=_loss(),
    rtol=1e-4,
    atol=1e-5,
    diagnoses=flagged(_loss, LEFT),
)

ITEMS = (HIDE, NEXT, PERPLEXITY, CHANCES, LOSS)
