"""Items of lesson 04: hidden tokens, next tokens, perplexity, sampling; and a loss too good."""

from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from answer_book.lesson_01 import softmax
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
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


def hide_tokens(
    input_ids: np.ndarray,
    special: np.ndarray,
    choice: np.ndarray,
    fate: np.ndarray,
    strangers: np.ndarray,
    share: float,
    mask_id: int,
) -> Pair:
    """Return the disguised text, and the labels of the tokens that were chosen."""
    chosen = (choice < share) & ~special
    shown = np.where(chosen & (fate < 0.8), mask_id, input_ids)
    shown = np.where(chosen & (fate >= 0.8) & (fate < 0.9), strangers, shown)
    return shown, np.where(chosen, input_ids, IGNORED)


ONLY_MASKS_ASKED = ("(chosen, ", "(chosen & (fate < 0.8), ")
NO_STRANGERS = ("fate < 0.9", "fate < 0.8")
HIDE_IN_PLACE = """labels = np.where(chosen, input_ids, IGNORED)
    input_ids[:] = shown
    return input_ids, labels"""

HIDE = Item(
    name="04.hide_tokens",
    title="Hide tokens, and remember what they were",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=hide_cases,
    reference=hide_tokens,
    withheld=("course_utils.pretraining.ask_hidden",),
    diagnoses=(
        Mistake(
            "special_asked",
            "special tokens are asked too: [CLS], [SEP] and padding carry no language, and "
            "answering them is easy marks",
            edit(hide_tokens, " & ~special", ""),
        ),
        Mistake(
            "everything_asked",
            "every position has its token as label: a position that is not asked gets -100, or "
            "the model is paid for copying what it sees",
            edit(hide_tokens, "np.where(chosen, input_ids, IGNORED)", "input_ids"),
        ),
        Mistake(
            "label_of_disguise",
            "the labels are taken after the tokens were disguised: the right answer would be "
            "[MASK]. Take them from the original",
            edit(hide_tokens, "input_ids, IGNORED", "shown, IGNORED"),
        ),
        Mistake(
            "kept_not_asked",
            "the chosen tokens that stay as they are must be asked as well: that is what they "
            "were chosen for",
            edit(hide_tokens, "(chosen, ", "(chosen & (fate < 0.9), "),
        ),
        Mistake(
            "only_masks_asked",
            "only the positions that show [MASK] are asked: strangers and kept tokens are "
            "questions too",
            edit(hide_tokens, *ONLY_MASKS_ASKED),
        ),
        Mistake(
            "always_mask",
            "every chosen token becomes [MASK]: one in ten is to become a stranger, and one in "
            "ten to stay",
            edit(hide_tokens, "chosen & (fate < 0.8)", "chosen", *NO_STRANGERS),
        ),
        Mistake(
            "none_kept",
            "no chosen token stays as it is: from a fate of 0.9 on it should",
            edit(hide_tokens, " & (fate < 0.9)", ""),
        ),
        Mistake(
            "no_strangers",
            "no chosen token becomes a stranger: with a fate from 0.8 to below 0.9 it should",
            edit(hide_tokens, *NO_STRANGERS),
        ),
        Mistake(
            "only_masks",
            "only [MASK] is shown and asked: the chosen tokens that become a stranger or stay as "
            "they are are questions too",
            edit(hide_tokens, *ONLY_MASKS_ASKED, *NO_STRANGERS),
        ),
        Mistake(
            "all_disguised",
            "tokens that were not chosen are disguised too: `fate` decides only about the chosen",
            edit(
                hide_tokens, "chosen & (fate < 0.8)", "fate < 0.8", "chosen & (fate >=", "(fate >="
            ),
        ),
        Mistake(
            "upside_down",
            "the labels are upside down: -100 belongs where nothing is asked",
            edit(hide_tokens, "(chosen, ", "(~chosen, "),
        ),
        Mistake(
            "changed_input",
            "right, but `input_ids` is changed in place, and the next epoch needs the text again: "
            "work on a copy",
            edit(hide_tokens, "return shown, np.where(chosen, input_ids, IGNORED)", HIDE_IN_PLACE),
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


def next_labels(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Return at each place the token after it, where there is one."""
    labels = np.full_like(input_ids, IGNORED)
    labels[:, :-1] = input_ids[:, 1:]
    labels[:, :-1][attention_mask[:, 1:] == 0] = IGNORED
    return labels


BY_OWN_MASK = ("[:, :-1][attention_mask[:, 1:] == 0]", "[attention_mask == 0]")

NEXT = Item(
    name="04.next_labels",
    title="The text, moved by one",
    **Rating(difficulty=2, importance=5, minutes=10, points=2),
    cases=next_cases,
    reference=next_labels,
    withheld=("course_utils.pretraining.ask_next",),
    diagnoses=(
        Mistake(
            "not_shifted",
            "the label at a position is the token that stands there, which the model can see: it "
            "would learn to copy. Move the text by one",
            edit(next_labels, *BY_OWN_MASK, "[:, :-1] = input_ids[:, 1:]", "[:] = input_ids"),
        ),
        Mistake(
            "backwards",
            "moved the wrong way: this asks for the token before, which the model has already seen",
            edit(
                next_labels,
                *BY_OWN_MASK,
                "[:, :-1] = input_ids[:, 1:]",
                "[:, 1:] = input_ids[:, :-1]",
            ),
        ),
        Mistake(
            "wraps_around",
            "np.roll puts the first token after the last one, and padding is asked for as well: "
            "both are -100",
            lambda input_ids, attention_mask: np.roll(input_ids, -1, axis=1),
        ),
        Mistake(
            "wraps_around",
            "the last position asks for the first token: nothing follows it, so its label is -100",
            edit(
                next_labels, "return labels", "labels[:, -1] = input_ids[:, 0]\n    return labels"
            ),
        ),
        Mistake(
            "padding_asked",
            "moved rightly, but padding is asked for: a label is -100 where padding follows",
            edit(next_labels, "    labels[:, :-1][attention_mask[:, 1:] == 0] = IGNORED\n", ""),
        ),
        Mistake(
            "one_padding_asked",
            "after [SEP], one padding token is still asked for: look at the mask of the token that "
            "follows, not at that of the position itself",
            edit(next_labels, *BY_OWN_MASK),
        ),
        Mistake(
            "shorter",
            "right, but one column short: give the last position a label too, -100",
            edit(next_labels, "return labels", "return labels[:, :-1]"),
        ),
        Mistake(
            "end_forgotten",
            "[SEP] is never asked for: then the model never learns to stop",
            edit(next_labels, "return labels", "return np.where(labels == 3, IGNORED, labels)"),
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


def perplexity(batches: Batches) -> float:
    """Return exp of the mean over all questions of all batches."""
    losses, counts = [], []
    for batch in batches:
        logits, labels = batch["logits"], batch["labels"]
        logits = logits - logits.max(axis=-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        each = -np.take_along_axis(log_p, labels[..., None] % logits.shape[-1], axis=-1)[..., 0]
        asked = labels != IGNORED
        losses.append(each[asked].sum())
        counts.append(asked.sum())
    return float(np.exp(sum(losses) / sum(counts)))


RESULT = "np.exp(sum(losses) / sum(counts))"
OF_BATCH = "[loss / n for loss, n in zip(losses, counts) if n]"

PERPLEXITY = Item(
    name="04.perplexity",
    title="Perplexity over unequal batches",
    **Rating(difficulty=3, importance=5, minutes=15, points=3),
    cases=perplexity_cases,
    reference=perplexity,
    withheld=("course_utils.pretraining.perplexity",),
    diagnoses=(
        Mistake(
            "mean_of_batches",
            "a mean over batches: a question in a small batch counts more than one in a large "
            "batch, and a batch without questions gives nan. Sum over all, then divide once",
            edit(perplexity, RESULT, "np.exp(np.mean(np.divide(losses, counts)))"),
        ),
        Mistake(
            "mean_of_batches",
            "a mean over batches: a question in a small batch counts more than one in a large "
            "batch. Sum over all, then divide once",
            edit(perplexity, RESULT, f"np.exp(np.mean({OF_BATCH}))"),
        ),
        Mistake(
            "mean_of_perplexities",
            "perplexities are averaged: average the losses over all questions, and take exp at "
            "the very end",
            edit(perplexity, RESULT, f"np.mean(np.exp({OF_BATCH}))"),
        ),
        Mistake(
            "mean_of_perplexities",
            "perplexities are averaged, weighted by questions: average the losses instead, and "
            "take exp at the very end",
            edit(
                perplexity,
                RESULT,
                f"np.average(np.exp({OF_BATCH}), weights=[n for n in counts if n])",
            ),
        ),
        Mistake(
            "ignored_counted",
            "positions with label -100 are counted: NumPy takes -100 as an index from the end, "
            "and says nothing",
            edit(perplexity, "labels != IGNORED", "labels == labels"),
        ),
        Mistake(
            "divided_by_positions",
            "divided by the number of positions: only the questions count, labels other than -100",
            edit(perplexity, "asked.sum())", "asked.size)"),
        ),
        Mistake(
            "no_exp",
            "this is the mean loss: perplexity is its exponential",
            edit(perplexity, "np.exp(sum", "(sum"),
        ),
        Mistake(
            "base_two",
            "2 to the power of a loss in natural logarithms: the base must be that of the "
            "logarithm, e",
            edit(perplexity, "np.exp(sum", "2 ** (sum"),
        ),
        Mistake(
            "unstable",
            "right for small logits, not a number for large ones: subtract each row's maximum "
            "before exp",
            edit(perplexity, " - logits.max(axis=-1, keepdims=True)", ""),
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


def chances(logits: np.ndarray, temperature: float, k: int, banned: np.ndarray) -> np.ndarray:
    """Ban, keep the best k, divide by the temperature, softmax."""
    kept = logits.copy()
    kept[banned] = -np.inf
    kept[kept < np.sort(kept)[-k]] = -np.inf
    return softmax(kept / temperature, axis=0)


BAN = "    kept[banned] = -np.inf\n"
TOP_K = "    kept[kept < np.sort(kept)[-k]] = -np.inf\n"

CHANCES = Item(
    name="04.chances",
    title="What may be written next",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
    cases=chances_cases,
    reference=chances,
    diagnoses=(
        Mistake(
            "multiplied",
            "the logits are multiplied by the temperature: divided by it, a low temperature makes "
            "the likely likelier",
            edit(chances, "/ temp", "* temp"),
        ),
        Mistake(
            "divided_late",
            "probabilities are divided by the temperature, and no longer sum to 1: divide the "
            "logits, before softmax",
            edit(chances, "kept / temperature, axis=0)", "kept, axis=0) / temperature"),
        ),
        Mistake(
            "no_temperature",
            "the temperature changes nothing: divide the logits by it before softmax (dividing "
            "probabilities and making them sum to 1 again undoes itself)",
            edit(chances, " / temperature", ""),
        ),
        Mistake(
            "no_top_k",
            "every token that is not banned may still be drawn: only the best k may",
            edit(chances, TOP_K, ""),
        ),
        Mistake(
            "ban_too_late",
            "a banned token uses up one of the k places: ban first, then take the best k",
            edit(chances, BAN, TOP_K, TOP_K, BAN),
        ),
        Mistake(
            "not_banned",
            "the banned tokens can be drawn",
            edit(chances, BAN, ""),
        ),
        Mistake(
            "does_not_sum_to_one",
            "the chances of the tokens that were dropped are missing, and the rest does not sum to "
            "1: drop before softmax",
            edit(
                chances,
                *(TOP_K, "    worse = kept < np.sort(kept)[-k]\n"),
                *("axis=0)", "axis=0) * ~worse"),
            ),
        ),
        Mistake(
            "zero_is_not_never",
            "a logit of 0 is not 'never': it is an ordinary score. Use minus infinity",
            edit(chances, "softmax(kept", "softmax(np.where(np.isfinite(kept), kept, 0.0)"),
        ),
        Mistake(
            "unstable",
            "right, except for large logits or a low temperature, where exp overflows: subtract "
            "the maximum first",
            edit(chances, " - logits.max(axis=axis, keepdims=True)", "", within=(softmax,)),
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place: work on a copy",
            edit(chances, "logits.copy()", "logits"),
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


def language_loss(table: Any, input_ids: Any, attention_mask: Any) -> Any:
    """Return the mean loss of a causal language model that is nothing but attention."""
    import torch

    T, D = input_ids.shape[1], table.shape[1]
    x = table[input_ids]  # (B, T, D)
    allowed = torch.ones(T, T, dtype=torch.bool).tril()
    scores = (x @ x.transpose(1, 2) / D**0.5).masked_fill(~allowed, -torch.inf)
    logits = scores.softmax(dim=-1) @ x @ table.T  # (B, T, V)
    logits, labels, asked = logits[:, :-1], input_ids[:, 1:], attention_mask[:, 1:].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * asked).sum() / asked.sum()


LOSS = Item(
    name="04.language_loss",
    title="Bug hunt: a loss that is too good",
    **Rating(difficulty=4, importance=5, minutes=20, points=3),
    cases=loss_cases,
    reference=language_loss,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=remaining(
        language_loss,
        {
            "peeks": (
                "a token may look at what comes after it: the causal mask is the lower triangle",
                *("tril()", "triu()"),
            ),
            "copies": (
                "each position is asked for its own token: the answers must be moved by one",
                *("logits[:, :-1]", "logits", "input_ids[:, 1:]", "input_ids"),
                *("attention_mask[:, 1:]", "attention_mask"),
            ),
            "pads": (
                "padding is counted in the mean: leave out every answer that is padding",
                *("    return", "    asked = torch.ones_like(asked)\n    return"),
            ),
        },
    ),
)

ITEMS = (HIDE, NEXT, PERPLEXITY, CHANCES, LOSS)
