"""Where weights come from: text that asks its own questions, and a model that answers them.

Hide some tokens and ask for them: the masked language model of J. Devlin et al., "BERT"
(2019). Ask after every token for the next: the causal one of A. Radford et al., "Improving
Language Understanding by Generative Pre-Training" (2018). Either way the answers are in the
text, so no one has to label anything. Lesson 04 builds both; this module is what it builds.

Left out on purpose: the training loop, which is in the lesson, and a head apart for each
kind of question. The questions differ, the model that answers them does not.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils.blocks import Config, LayerNorm, gelu
from course_utils.transformer import Transformer, initialise


@dataclass(frozen=True)
class Questions:
    """A batch of text with questions about it.

    Attributes
    ----------
    input_ids, attention_mask : LongTensors of shape (B, T)
        What the model may see.
    asked : bool Tensor of shape (B, T)
        The positions from whose vector an answer is read; N of them.
    answers : LongTensor of shape (N,)
        The right tokens, row by row.
    """

    input_ids: Tensor
    attention_mask: Tensor
    asked: Tensor
    answers: Tensor


def ask_hidden(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    mask_id: int,
    special_ids: Iterable[int],
    vocab_size: int,
    generator: torch.Generator,
    share: float = 0.15,
) -> Questions:
    """Choose a share of the tokens, disguise them, ask for them.

    Of the chosen, 80% become the mask token, 10% a random token, and 10% stay what they are.

    Parameters
    ----------
    input_ids, attention_mask : LongTensors of shape (B, T)
    mask_id : int
    special_ids : iterable of int
        Never chosen: they carry no language. Padding is never chosen either.
    vocab_size : int
    generator : torch.Generator
        On the CPU; all chance comes from here.
    share : float
        Probability that a token is chosen.

    Raises
    ------
    ValueError
        If `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    ordinary = ~torch.isin(input_ids, torch.tensor(list(special_ids))) & attention_mask.bool()
    asked = (torch.rand(input_ids.shape, generator=generator) < share) & ordinary
    fate = torch.rand(input_ids.shape, generator=generator)
    strangers = torch.randint(vocab_size, input_ids.shape, generator=generator)
    shown = torch.where(asked & (fate < 0.8), mask_id, input_ids)
    shown = torch.where(asked & (fate >= 0.9), strangers, shown)
    return Questions(shown, attention_mask, asked, input_ids[asked])


def ask_next(input_ids: Tensor, attention_mask: Tensor) -> Questions:
    """Ask at every token for the one after it.

    Examples
    --------
    >>> questions = ask_next(torch.tensor([[2, 7, 8, 3]]), torch.ones(1, 4, dtype=torch.long))
    >>> questions.input_ids.tolist(), questions.answers.tolist()
    ([[2, 7, 8]], [7, 8, 3])
    """
    asked = attention_mask[:, 1:].bool()
    return Questions(input_ids[:, :-1], attention_mask[:, :-1], asked, input_ids[:, 1:][asked])


class LanguageModel(nn.Module):
    """A transformer that answers questions with a distribution over the vocabulary.

    The answer is read by comparing with the word table itself: the weights that turn a
    token into a vector also turn a vector into a token (O. Press and L. Wolf, "Using the
    Output Embedding to Improve Language Models", 2017).

    Parameters
    ----------
    transformer : Transformer
        An encoder for hidden tokens, a causal decoder for next ones.
    """

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        config: Config = transformer.config
        self.transformer = transformer
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialise(self.transform)

    def forward(self, questions: Questions) -> Tensor:
        """Return one row of logits for each question, (N, V), V tokens in the vocabulary."""
        output = self.transformer(questions.input_ids, questions.attention_mask)
        vectors = output.hidden[-1][questions.asked]  # (N, D)
        vectors = self.norm(gelu(self.transform(vectors)))
        return vectors @ self.transformer.embeddings.words.weight.T + self.bias


@torch.no_grad()
def look_at_neighbours(transformer: Transformer, offsets: Sequence[int] = (-1, 1)) -> None:
    r"""Point heads of the first block at near tokens; all other weights stay as they are.

    The position table becomes waves, in which moving by `offset` places is a rotation
    :math:`R`. A head whose queries are its keys, rotated, fits best the token `offset` places
    further on:

    .. math:: W_q = W_k R_\text{offset}

    Waves: A. Vaswani et al., "Attention Is All You Need" (2017), section 3.5. A trained BERT
    has such heads too: K. Clark et al., "What Does BERT Look At?" (2019).

    Parameters
    ----------
    transformer : Transformer
        Changed in place. Its hidden size must be even.
    offsets : sequence of int
        For the first head, the second, and so on: -1 is the token before, 1 the one after.

    Raises
    ------
    ValueError
        If there are more offsets than heads, or the hidden size is odd.
    """
    config = transformer.config
    D, heads = config.hidden_size, config.heads
    if D % 2 or len(offsets) > heads:
        raise ValueError(f"need an even hidden size and at most {heads} offsets: {D}, {offsets}")
    frequency = 3.0 * 0.1 ** torch.linspace(0, 1, D // 2)  # radians a token, 3.0 down to 0.3

    angle = torch.arange(config.max_tokens).unsqueeze(1) * frequency  # (positions, D/2)
    words, positions = transformer.embeddings.words.weight, transformer.embeddings.positions.weight
    waves = torch.cat([angle.sin(), angle.cos()], dim=1) * math.sqrt(2)  # (positions, D)
    positions.copy_(2 * words.std() * waves)  # twice a word: place decides the scores first

    matrices = (
        transformer.get_parameter(f"blocks.0.attention.{x}.weight") for x in ("key", "query")
    )
    keys, queries = (matrix.view(heads, D // heads, D) for matrix in matrices)
    nn.init.normal_(keys, std=1.2 / math.sqrt(D))
    for head, offset in enumerate(offsets):
        cos, sin = (offset * frequency).cos().diag(), (offset * frequency).sin().diag()
        rotation = torch.cat(
            [torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)]
        )  # (D, D)
        queries[head].copy_(keys[head] @ rotation)


@torch.no_grad()
def perplexity(model: LanguageModel, batches: Iterable[Questions]) -> float:
    """Return exp of the mean negative log-probability of the right answers.

    The mean is over all answers, not over batches. The model is left in the mode, training
    or evaluation, in which it came.

    Raises
    ------
    ValueError
        If there is no question.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for questions in batches:
        logits = model(questions)
        total += nn.functional.cross_entropy(logits, questions.answers, reduction="sum").item()
        count += len(questions.answers)
    model.train(was_training)
    if not count:
        raise ValueError("perplexity needs at least one question, got none")
    return math.exp(total / count)


@torch.no_grad()
def generate(
    model: LanguageModel,
    start: list[int],
    stop_id: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_tokens: int = 30,
    banned_ids: Iterable[int] = (),
) -> list[int]:
    """Write on, one token at a time: ask for the next, draw it, append it.

    Parameters
    ----------
    model : LanguageModel
        Of a causal transformer.
    start : list of int
        At least one token, usually the one that begins every text.
    stop_id : int
        Ends the text when drawn; it is not returned.
    generator : torch.Generator
    temperature : float
        Above 0. Logits are divided by it: below 1 the likely becomes likelier.
    max_tokens : int
        Tokens to write at most.
    banned_ids : iterable of int
        Never drawn.

    Returns
    -------
    list of int
        `start`, and what was written.

    Raises
    ------
    ValueError
        If `start` is empty or `temperature` is not above 0.
    """
    if not start or temperature <= 0:
        raise ValueError(f"need a start and a temperature above 0, got {start} and {temperature}")
    was_training = model.training
    model.eval()
    ids = list(start)
    for _ in range(max_tokens):
        seen = torch.tensor([ids])  # (1, T)
        last = torch.zeros_like(seen, dtype=torch.bool)
        last[:, -1] = True
        logits = model(Questions(seen, torch.ones_like(seen), last, seen[last]))[0]  # (V,)
        logits[list(banned_ids)] = -torch.inf
        chances = (logits / temperature).softmax(dim=0)
        drawn = int(torch.multinomial(chances, 1, generator=generator))
        if drawn == stop_id:
            break
        ids.append(drawn)
    model.train(was_training)
    return ids
