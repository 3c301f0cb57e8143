"""The fine-tune of one's own rows: timed beforehand, resumed when killed.

It begins at a linear probe (see `probe`). The loop is `training.fit`: the weights of the lowest
validation loss are kept, so validation chooses how long to train. Tags and ratings are put into a
form that it takes: a set of tags is a number, and the loss looks the set up; ratings are scaled for
training, and the head scaled back.
"""

import time
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerBase

from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.history import History
from course_utils.models import SentenceClassifier, encoder_path, load_classifier
from course_utils.optimization import MixedPrecision, make_optimizer, make_schedule
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import Part
from course_utils.own_data.plans import Plan, Settings, looks_per_epoch
from course_utils.own_data.probe import begin_at_probe
from course_utils.reading import TextWarning
from course_utils.recipe import Recipe
from course_utils.regularization import EarlyStopping
from course_utils.runtime import pick_device, seed_everything
from course_utils.training import evaluate, fit, rating_loss, training_steps

SAVE_SECONDS = 60.0  # what a kill may cost


@dataclass(frozen=True)
class Tuned:
    """A trained model, what happened, and its logits on the validation rows (N, C)."""

    model: SentenceClassifier
    history: History
    logits: np.ndarray


def usual_rate() -> float:
    """Return a peak learning rate that suits the encoder's size: the smaller, the higher."""
    return 1e-4 if AutoConfig.from_pretrained(encoder_path()).hidden_size < 512 else 2e-5


def seconds_per_text(
    goal: Goal, train: Part, settings: Settings, tokenizer: PreTrainedTokenizerBase
) -> float:
    """Measure a few training steps on a sample, with a model that is thrown away.

    Some batches are of long texts and some of short ones, so what is measured is a token's time.
    """
    sample = train.first(min(len(train), 24 * settings.batch_size))
    data, loss_fn = _prepared(goal, sample, sample, settings, tokenizer)[0], _loss(goal, sample)
    model = load_classifier(len(goal.names), seed=0).to(pick_device())
    optimizer = make_optimizer(model, settings.lr, 0.01)
    batches = list(islice(train_loader(data, settings.batch_size), 9))
    steps = training_steps(
        model,
        batches,
        loss_fn,
        optimizer,
        make_schedule(optimizer, 100, 0.1),
        MixedPrecision(model, "auto"),
    )
    next(steps)  # the first one allocates
    started, tokens = time.perf_counter(), 0
    for batch, _ in zip(batches[1:], steps, strict=False):
        tokens += batch.input_ids.numel()
        if time.perf_counter() - started > 5:
            break
    taken = time.perf_counter() - started
    return taken / tokens * float(data.lengths().mean()) if tokens else 0.05


# --- training -----------------------------------------------------------------------------


def tag_loss(logits: torch.Tensor, numbers: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy of tags, each text's set given by its number.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
    numbers : LongTensor of shape (B,)
        Which of the sets each text has.
    sets : Tensor of shape (K, C)
        1 where a set has a tag.

    Examples
    --------
    >>> sets = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> tag_loss(torch.zeros(1, 2), torch.tensor([1]), sets)  # nothing known: ln 2
    tensor(0.6931)
    """
    wanted = sets.to(logits.device)[numbers]  # (B, C)
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def fine_tune(
    goal: Goal,
    train: Part,
    validation: Part,
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    plan: Plan,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Tuned:
    """Fine-tune the encoder on some rows; the validation loss says when to stop.

    The same rows and settings give the same weights, also if the run was killed in between and
    resumed from its folder.
    """
    data, held_out, scale = _prepared(goal, train, validation, settings, tokenizer)
    both = Part((), (), np.concatenate([train.targets, validation.targets]))
    steps = -(-len(train) // settings.batch_size)
    recipe = Recipe(
        epochs=plan.epochs,
        lr=settings.lr,
        validate_every=-(-steps // looks_per_epoch(plan.epochs)),
    )
    save_every = int(SAVE_SECONDS / (plan.seconds_per_text * settings.batch_size))
    seed_everything(settings.seed)
    model = load_classifier(len(goal.names), seed=settings.seed).to(pick_device())
    mean, spread = scale
    rated = (train.targets - mean) / spread if goal.kind == "rating" else train.targets
    begin_at_probe(model, goal, data, rated)
    history = fit(
        model,
        train_loader(data, settings.batch_size, seed=settings.seed),
        eval_loader(held_out),
        _loss(goal, both),
        recipe,
        should_stop=EarlyStopping(patience=3 if plan.epochs <= 3 else 2),
        folder=folder,
        save_every=max(1, min(save_every, 500)),
        resume=resume,
        progress=progress,
    )
    if goal.kind == "rating":
        _rescale(model, *scale)
    return Tuned(model, history, logits_of(model, goal, validation.texts, settings, tokenizer))


def logits_of(
    model: nn.Module,
    goal: Goal,
    texts: tuple[str, ...],
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
) -> np.ndarray:
    """Return a model's outputs for texts, in their order, shape (N, C)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextWarning)  # the audit has said so
        data = TokenizedDataset(texts, None, tokenizer, settings.max_tokens)
    found = evaluate(model, eval_loader(data), lambda logits, labels: logits.sum())
    return found.logits.double().numpy()


def _prepared(
    goal: Goal, train: Part, validation: Part, settings: Settings, tokenizer: Any
) -> tuple[TokenizedDataset, TokenizedDataset, tuple[float, float]]:
    """Return both parts tokenised, and mean and spread of the training ratings."""
    mean, spread = 0.0, 1.0
    targets = [train.targets, validation.targets]
    if goal.kind == "tags":
        numbers = _sets(np.concatenate(targets))[1]
        targets = [numbers[: len(train)], numbers[len(train) :]]
    if goal.kind == "rating":
        mean, spread = float(train.targets.mean()), float(train.targets.std()) or 1.0
        targets = [((each - mean) / spread).astype(np.float32) for each in targets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextWarning)  # the audit has said so
        data = [
            TokenizedDataset(part.texts, labels, tokenizer, settings.max_tokens)
            for part, labels in zip((train, validation), targets, strict=True)
        ]
    return data[0], data[1], (mean, spread)


def _sets(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different sets of tags (K, C), and which of them each row has (N,)."""
    sets, numbers = np.unique(targets, axis=0, return_inverse=True)
    return sets, numbers.reshape(-1)


def _loss(goal: Goal, both: Part) -> Any:
    if goal.kind == "tags":
        return partial(tag_loss, sets=torch.tensor(_sets(both.targets)[0], dtype=torch.float32))
    return rating_loss if goal.kind == "rating" else nn.functional.cross_entropy


@torch.no_grad()
def _rescale(model: SentenceClassifier, mean: float, spread: float) -> None:
    """Let the head speak in the ratings' own units."""
    model.classifier.weight *= spread
    model.classifier.bias.mul_(spread).add_(mean)
