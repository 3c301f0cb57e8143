r"""A small model that answers as a large one does: cut from its layers, trained on its answers.

The student is asked for the teacher's probabilities, at a temperature T that lets the small ones
be seen, rather than for the labels alone (G. Hinton, O. Vinyals and J. Dean, "Distilling the
Knowledge in a Neural Network", 2015). It begins as some of the teacher's own layers (V. Sanh et
al., "DistilBERT", 2019).

Left out on purpose: losses on hidden states and attention, which bind the student's shapes to the
teacher's, and text made up for the purpose. The teacher's answers on real reviews are enough here.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, mse_loss

from course_utils.artefacts import MODULES, Artefact, made_of, trained
from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import load_corpus
from course_utils.inputs import above_0, whole_number
from course_utils.models import SentenceClassifier
from course_utils.movie_model import RATING_AND_CLASSES, movie_model
from course_utils.optimization import MixedPrecision, make_optimizer, make_schedule
from course_utils.recipe import Recipe
from course_utils.runtime import memory_kept, seed_everything
from course_utils.sources import REVIEWS
from course_utils.splits import split
from course_utils.training import forward, training_steps

STUDENT_RECIPE = Recipe(epochs=2, lr=2e-4)
STUDENT_LAYERS = (0, 2, 4)
TEMPERATURE = 2.0


def soft_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return T² times the divergence of the student's softened probabilities from the teacher's.

    .. math:: T^2 \sum_c p_c \log\frac{p_c}{q_c}, \quad p = \text{softmax}(t / T),
              \quad q = \text{softmax}(s / T)

    Its gradient by the student's logits is :math:`T (q - p)`. For a large T that is near
    :math:`(s - t) / C` for logits of mean zero; without the :math:`T^2` it would vanish with T.

    Parameters
    ----------
    student, teacher : Tensor of shape (B, C)
        Logits.
    temperature : float
        Above 0.

    Returns
    -------
    Tensor
        The mean over the batch, a scalar.

    Raises
    ------
    ValueError
        If the shapes differ, or the temperature is not above 0.

    Examples
    --------
    >>> same = torch.tensor([[2.0, 0.0, -1.0]])
    >>> soft_loss(same + 5, same, 4.0)  # a constant added to all logits changes no probability
    tensor(0.)
    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise ValueError(
            f"need logits of one shape (B, C), got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}"
        )
    T = above_0(temperature, "temperature")
    log_q, log_p = log_softmax(student / T, dim=1), log_softmax(teacher / T, dim=1)
    return T * T * kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def rating_and_soft_loss(
    student: Tensor, teacher: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Return the loss of a student of lesson 05's model: its rating, and its classes softened.

    Parameters
    ----------
    student, teacher : Tensor of shape (B, 4)
        The rating, then the logits of negative, neutral and positive.
    temperature : float
    """
    classes = soft_loss(student[:, 1:], teacher[:, 1:], temperature)
    return classes + mse_loss(student[:, 0], teacher[:, 0])


def with_layers(model: SentenceClassifier, layers: Sequence[int]) -> SentenceClassifier:
    """Return a copy of a classifier that has only these layers of its encoder, in this order.

    Parameters
    ----------
    model : SentenceClassifier
        With a BERT as its encoder; left as it is.
    layers : sequence of int
        Places in the encoder, the lowest 0.

    Raises
    ------
    ValueError
        If there is none of them, or one that the encoder has not.
    """
    smaller = copy.deepcopy(model)
    bert: Any = smaller.encoder
    here = len(bert.encoder.layer)
    places = [whole_number(place, "a layer", least=0) for place in layers]
    if not places or max(places) >= here:
        raise ValueError(f"need layers from 0 to {here - 1}, got {list(layers)}")
    kept = [copy.deepcopy(bert.encoder.layer[place]) for place in places]
    bert.encoder.layer = nn.ModuleList(kept)
    bert.config.num_hidden_layers = len(kept)
    return smaller


def distil(
    student: SentenceClassifier,
    data: TokenizedDataset,
    answers: Tensor,
    recipe: Recipe = STUDENT_RECIPE,
    *,
    seed: int = 0,
) -> SentenceClassifier:
    """Train a student on a teacher's answers; return it, in evaluation mode.

    Parameters
    ----------
    student : SentenceClassifier
        Changed in place.
    data : TokenizedDataset of N texts
        Their labels are not looked at, so they need none.
    answers : Tensor of shape (N, 4)
        The teacher's outputs, in the order of `data`.
    recipe : Recipe
    seed : int

    Raises
    ------
    ValueError
        If there is not one answer for each text.
    """
    if len(answers) != len(data):
        raise ValueError(f"need an answer for each of {len(data)} texts, got {len(answers)}")
    numbered = copy.copy(data)
    numbered.labels = torch.arange(len(data)).numpy()  # a row's label is its number
    loader = train_loader(numbered, 16, seed=seed)
    optimizer = make_optimizer(student, *recipe.rates)
    schedule = make_schedule(optimizer, recipe.epochs * len(loader), recipe.warmup)
    precision = MixedPrecision(student, recipe.precision)
    loss = partial(_loss_by_row, answers=answers)
    with memory_kept():
        for _ in range(recipe.epochs):
            for _ in training_steps(student, loader, loss, optimizer, schedule, precision):
                pass
    return student.eval()


def _loss_by_row(outputs: Tensor, rows: Tensor, answers: Tensor) -> Tensor:
    return rating_and_soft_loss(outputs, answers[rows])


@torch.inference_mode()
def answers_of(model: SentenceClassifier, data: TokenizedDataset, batch_size: int = 32) -> Tensor:
    """Return a model's outputs for all texts, shape (N, outputs), in the order of `data`."""
    answers = torch.empty(len(data), model.classifier.out_features)
    for batch in eval_loader(data, batch_size):
        answers[batch.index] = forward(model, batch)
    return answers


def train_movie_student(teacher: Artefact) -> SentenceClassifier:
    """Distil lesson 05's model into three of its layers, by its answers to films and products.

    The teacher's training reviews and all Amazon sentences: nobody's ratings are looked at.
    """
    sentences = [*split(load_corpus("movies")).train, *load_corpus("amazon")]
    texts = [sentence.text for sentence in sentences]
    data = TokenizedDataset(texts, None, teacher.tokenizer)
    answers = answers_of(teacher.model, data).clone()
    seed_everything(0)
    return distil(with_layers(teacher.model, STUDENT_LAYERS), data, answers)


def movie_student(cache: Path | None = None) -> Artefact:
    """Return the student of lesson 05's model: three layers, the same outputs."""
    teacher = movie_model(cache)

    def train() -> SentenceClassifier:
        return train_movie_student(teacher)

    recipe = asdict(STUDENT_RECIPE) | {"layers": STUDENT_LAYERS, "temperature": TEMPERATURE}
    recipe |= {"seed": 0, "teacher": teacher.record}
    record = made_of(recipe, train, REVIEWS.sha256, modules=(*MODULES, "distillation"))
    takes = "two to six minutes on two cores"
    return trained("movie-student", train, record, RATING_AND_CLASSES, takes=takes, cache=cache)
