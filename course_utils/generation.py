"""How a language model's distribution over the next token becomes text.

Choose a token, append it, ask again. How to choose is a question of its own: the likeliest,
a draw from all (sharpened by a temperature), from the best k, or from the fewest that hold a
share p (A. Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020); or keep
several beginnings at once, beam search. Keys and values of what was read stay in a cache, so
that each new token is read once. Lesson 10 builds all of it.

A model here is a function ``model(input_ids, attention_mask, past, last)`` that returns
logits and the new past, as `llama.Llama` is; `Wrapped` makes one of any decoder of
transformers.

Left out on purpose: speculative decoding, constrained output, and batching of requests that
arrive one by one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

Choose = Callable[[Tensor], Tensor]  # logits (B, V) to token ids (B,)


class Wrapped(nn.Module):
    """A decoder of transformers, of any family, called as `llama.Llama` is."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)  # a new module would be in training mode, with dropout

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, past: Any = None, last: int = 0
    ) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """Return logits and the new past; see `llama.Llama.forward`."""
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -input_ids.size(1) :]
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            past_key_values=DynamicCache(past or ()),
            logits_to_keep=last,
            use_cache=True,
        )
        layers = output.past_key_values.layers
        return output.logits, tuple((layer.keys, layer.values) for layer in layers)


def keep(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Return the probabilities from which the next token is drawn.

    Parameters
    ----------
    logits : Tensor of shape (..., V)
    temperature : float
        Above 0. Logits are divided by it, before anything is cut.
    top_k : int, optional
        Only the k likeliest stay.
    top_p : float, optional
        Above 0, at most 1. Of these, the fewest stay that together have at least this share;
        the likeliest always does.

    Returns
    -------
    Tensor of shape (..., V)
        They sum to 1; what was cut has 0.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    >>> keep(logits, top_p=0.6).mul(1000).round().int().tolist()
    [625, 375, 0, 0]
    """
    if temperature <= 0 or (top_k is not None and top_k < 1):
        raise ValueError(
            f"temperature must be above 0 and top_k at least 1, got {temperature}, {top_k}"
        )
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.size(-1))).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    chances = logits.softmax(dim=-1)
    if top_p is not None:
        ranked, order = chances.sort(dim=-1, descending=True)
        before = ranked.cumsum(dim=-1) - ranked  # the share of all that are likelier
        cut = torch.zeros_like(chances).scatter(-1, order, (before >= top_p).to(chances))
        chances = chances.masked_fill(cut.bool(), 0)
        chances = chances / chances.sum(dim=-1, keepdim=True)
    return chances


def greedy(logits: Tensor) -> Tensor:
    """Choose the likeliest token of each row."""
    return logits.argmax(dim=-1)


def sampler(generator: torch.Generator, **options: Any) -> Choose:
    """Return a way to choose: draw from what `keep` leaves with these options."""

    def draw(logits: Tensor) -> Tensor:
        return torch.multinomial(keep(logits, **options), 1, generator=generator).squeeze(-1)

    return draw


def discourage(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Make tokens that were written already less likely.

    Their logits are divided by `penalty` where positive and multiplied where negative
    (N. S. Keskar et al., "CTRL", 2019).

    Parameters
    ----------
    logits : Tensor of shape (B, V)
    written : LongTensor of shape (B, T)
    penalty : float
        1 changes nothing.

    Examples
    --------
    >>> discourage(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[0, 1]]), 2.0).tolist()
    [[1.0, -4.0, 1.0]]
    """
    theirs = logits.gather(-1, written)
    theirs = torch.where(theirs > 0, theirs / penalty, theirs * penalty)
    return logits.scatter(-1, written, theirs)


@torch.inference_mode()
def generate(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    stop_ids: Iterable[int],
    max_tokens: int,
    choose: Choose = greedy,
    penalty: float = 1.0,
) -> list[list[int]]:
    """Write on after each text of a batch, reading every token once.

    Parameters
    ----------
    model : nn.Module
        `llama.Llama` or `Wrapped`.
    input_ids, attention_mask : LongTensors of shape (B, T)
        Padded on the left: what is written must follow the text, not the padding.
    stop_ids : iterable of int
        Any of these ends a text; it is not returned.
    max_tokens : int
    choose : callable
        `greedy`, or what `sampler` returns.
    penalty : float
        See `discourage`.

    Returns
    -------
    list of list of int
        What was written, without what came before.

    Raises
    ------
    ValueError
        If a text ends in padding.
    """
    if not attention_mask[:, -1].all():
        raise ValueError("a text ends in padding: pad on the left to generate")
    stop = torch.tensor(sorted(stop_ids), device=input_ids.device)
    was_training = model.training
    model.eval()
    text, mask, past = input_ids, attention_mask, None
    running = torch.ones(len(text), dtype=torch.bool, device=text.device)
    written: list[list[int]] = [[] for _ in text]
    unread = input_ids
    for _ in range(max_tokens):
        logits, past = model(unread, mask, past, last=1)
        drawn = choose(discourage(logits[:, -1], text, penalty))  # (B,)
        running &= ~torch.isin(drawn, stop)
        if not running.any():
            break
        for row in running.nonzero().flatten().tolist():
            written[row].append(int(drawn[row]))
        unread = drawn[:, None]
        text = torch.cat([text, unread], dim=1)
        mask = torch.cat([mask, torch.ones_like(unread)], dim=1)
    model.train(was_training)
    return written


@torch.inference_mode()
def beam_search(
    model: nn.Module, start: Sequence[int], *, stop_id: int, width: int, max_tokens: int
) -> list[tuple[float, list[int]]]:
    """Keep the `width` likeliest beginnings at every step; return the texts, best first.

    Parameters
    ----------
    model : nn.Module
    start : sequence of int
        One text.
    stop_id : int
        Ends a text, and counts as one of its tokens.
    width : int
        1 is `greedy`.
    max_tokens : int

    Returns
    -------
    list of (float, list of int)
        The sum of log-probabilities of what was written, and what was written. Not divided by
        the length, so short texts are favoured.

    Raises
    ------
    ValueError
        If `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    device = next(model.parameters()).device
    unread = torch.tensor([list(start)], device=device)
    mask, past = torch.ones_like(unread), None
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for _ in range(max_tokens):
        logits, past = model(unread, mask, past, last=1)
        log_p = logits[:, -1].log_softmax(dim=-1)  # (beams, V)
        totals = log_p + torch.tensor([[score] for score, _ in beams], device=device)
        best = totals.flatten().topk(min(2 * width, totals.numel()))
        grown: list[tuple[float, int, int]] = []  # score, row it grew from, token; best first
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, token = divmod(place, log_p.size(-1))
            if token == stop_id:
                done.append((score, [*beams[row][1], token]))
            elif len(grown) < width:
                grown.append((score, row, token))
        finished = sorted((score for score, _ in done), reverse=True)[:width]
        beams = [(s, [*beams[row][1], token]) for s, row, token in grown]
        # A longer text is never likelier than its beginning: nobody can catch up any more.
        if len(finished) == width and finished[-1] >= grown[0][0]:
            break
        rows = torch.tensor([row for _, row, _ in grown], device=device)
        past = tuple((key[rows], value[rows]) for key, value in past)
        unread = torch.tensor([[token] for _, _, token in grown], device=device)
        mask = torch.ones(len(grown), mask.size(1) + 1, dtype=torch.long, device=device)
    return sorted([*done, *beams], key=lambda beam: -beam[0])[:width]
