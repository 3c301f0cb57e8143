"""Texts to labels, the way the model was trained to read them.

The same tokenizer, the same cut, the same attention mask as in training: each that differs here is
*training-serving skew*, which no error message reports. Texts are sorted by length and computed in
groups, so that a short one is not padded to the longest of the queue.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from course_utils.artefacts import Artefact
from course_utils.batching import Example, collate
from course_utils.inputs import whole_number
from course_utils.reading import within
from course_utils.serving.rules import rules_of
from course_utils.system import sha256

ROWS = 32  # computed at once, at most
CALL = 50  # what a call of the model costs before its first token, in tokens; about, on CPUs
PRECISIONS = ("float32", "bfloat16")
PROBE = "A warm-up sentence, so that the first client does not pay for what is set up once."


@dataclass(frozen=True)
class Prediction:
    """What the model says of one text.

    Attributes
    ----------
    label : str or None
        The class: the likeliest, unless the model's rules have a threshold. None if it has none.
    probabilities : dict of str to float
        Of each class, summing to 1; of each tag, for itself.
    rating : float or None
        None if the model does not rate.
    tokens : int
        How many tokens were read.
    truncated : bool
        Whether the text was longer than the model reads, so that its end was ignored.
    unknown : float
        Share of the tokens that the vocabulary does not have.
    tags : tuple of str or None
        Those that apply; None if the model has no tags.
    """

    label: str | None
    probabilities: dict[str, float]
    rating: float | None
    tokens: int
    truncated: bool
    unknown: float
    tags: tuple[str, ...] | None = None


class Predictor:
    """A model, ready to answer; several threads may ask.

    Parameters
    ----------
    artefact : Artefact
    max_tokens : int, optional
        Longer texts are cut here; the same number as in training. What the model's rules say, if
        not given.
    rows : int
        Texts computed at once, at most.
    precision : {"float32", "bfloat16"}
        Of weights and activations. bfloat16 is faster where the processor multiplies it in
        hardware, and rounds to three digits: an answer may then depend a little on the batch.

    Raises
    ------
    ValueError
        If `precision` is none of these, or the rules in the model's record make no sense. If the
        tokenizer has more tokens than the model, or the model answers with numbers that are not
        finite: the parts do not belong together.
    """

    def __init__(
        self,
        artefact: Artefact,
        max_tokens: int | None = None,
        rows: int = ROWS,
        precision: str = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        self.model = artefact.model.eval().to(getattr(torch, precision))
        self.tokenizer = artefact.tokenizer
        self.outputs, self.version = artefact.outputs, version_of(artefact.folder)
        self.rules = rules_of(self.outputs, artefact.record.get("use"))
        self.max_tokens = within(self.tokenizer, max_tokens or self.rules.max_tokens)
        self.rows = whole_number(rows, "rows", least=1)
        words = cast(torch.nn.Embedding, self.model.encoder.get_input_embeddings())
        known = words.num_embeddings
        if len(self.tokenizer) > known:
            raise ValueError(
                f"the tokenizer has {len(self.tokenizer):,} tokens and the model {known:,}: they "
                "do not belong together"
            )
        self([PROBE])

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        """Return a prediction for each text, in order.

        Raises
        ------
        ValueError
            If a logit is not finite.
        """
        # The same options always: another thread may be reading, and options change a tokenizer.
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
        ids = encoded["input_ids"]
        logits: dict[int, torch.Tensor] = {}
        for rows in groups([len(row) for row in ids], self.rows):
            logits |= zip(rows, self._logits([ids[row] for row in rows]), strict=True)
        return [
            self._prediction(logits[row], ids[row], bool(encoded.encodings[row].overflowing))
            for row in range(len(ids))
        ]

    def _logits(self, ids: list[list[int]]) -> torch.Tensor:
        """Return the logits (B, C) of texts that are computed together."""
        batch = collate([Example(i, row, 0) for i, row in enumerate(ids)], self._pad_id())
        with torch.inference_mode():
            logits = self.model(batch.input_ids, batch.attention_mask).logits.float()
        if not logits.isfinite().all():
            raise ValueError("the model answers with numbers that are not finite")
        return logits

    def _pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def _prediction(self, logits: torch.Tensor, ids: list[int], truncated: bool) -> Prediction:
        said = self.rules.say(logits)
        unknown = sum(token == self.tokenizer.unk_token_id for token in ids)
        return Prediction(
            label=said.label,
            probabilities=said.probabilities,
            rating=said.rating,
            tokens=len(ids),
            truncated=truncated,
            unknown=unknown / len(ids),
            tags=said.tags,
        )

    def card(self) -> dict[str, Any]:
        """Return what the model is and how it is used, as plain data."""
        rules = self.rules.card() | {"max_tokens": self.max_tokens}
        return {"version": self.version, "outputs": list(self.outputs), **rules}


def groups(lengths: Sequence[int], most: int, call: int = CALL) -> list[list[int]]:
    """Return which texts to compute together, so that all of them cost least.

    A group is padded to its longest text: n texts cost ``call + n * longest`` tokens. Few groups
    mean much padding, many groups many calls. In order of length the best groups are runs, and the
    best runs up to a place are found from the best up to each place before it.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text.
    most : int
        Texts in a group.
    call : int
        What a call costs by itself, in tokens.

    Returns
    -------
    list of list of int
        The places of the texts, shorter groups first.

    Examples
    --------
    >>> groups([60, 5, 6, 5, 55], most=32, call=50)  # costs 18 + 120 + 100; all together 350
    [[1, 3, 2], [4, 0]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cost, begin = [0], []  # of the first n texts: the least cost, and where its last group begins
    for end, place in enumerate(order, start=1):
        run = range(max(0, end - most), end)
        costs = [cost[start] + call + (end - start) * lengths[place] for start in run]
        cost.append(min(costs))
        begin.append(run[costs.index(cost[-1])])
    found: list[list[int]] = []
    while order:
        start = begin[len(order) - 1]
        found.append(order[start:])
        del order[start:]
    return found[::-1]


def share_of_cores(threads: int) -> Callable[[], None]:
    """Return what each of so many threads calls first, to take its part of the cores.

    Without it each takes all, and they wait for each other.
    """
    return partial(torch.set_num_threads, max(1, torch.get_num_threads() // threads))


def version_of(folder: Path) -> str:
    """Return the folder's name; with digits of its record, unless they are in the name already."""
    if re.search("-[0-9a-f]{16}$", folder.name):
        return folder.name
    return f"{folder.name}-{sha256(folder / 'record.json')[:16]}"
