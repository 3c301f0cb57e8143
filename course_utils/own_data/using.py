"""Using the artefact: what a text gets from the model, as the report measured it.

The record of the artefact says how: the kind of answer, where texts are cut, temperature,
threshold. A model used without them is not the one that was tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from course_utils.artefacts import Artefact
from course_utils.own_data.decisions import Decision
from course_utils.own_data.goals import Goal
from course_utils.own_data.plans import Settings
from course_utils.own_data.tuning import logits_of


@dataclass(frozen=True)
class Answer:
    """What the model says about a text.

    Attributes
    ----------
    said : str, tuple of str, or float
        A class, tags, or a rating.
    probabilities : dict of str to float
        Of each class or tag; empty for ratings.
    """

    said: str | tuple[str, ...] | float
    probabilities: dict[str, float]


def judge(artefact: Artefact, texts: Sequence[str]) -> list[Answer]:
    """Return the model's answer to each text.

    Parameters
    ----------
    artefact : Artefact
        From `artefacts.load_artefact`, of a folder ``model`` that ``course finetune`` wrote.
    texts : sequence of str

    Raises
    ------
    ValueError
        If the artefact does not say how it is to be used, or a text is no text.
    """
    if "use" not in artefact.record:
        raise ValueError(
            f"{artefact.folder} was not made by course finetune: it has no rules of use"
        )
    goal, decision, settings = rules_of_use(artefact.record["use"])
    logits = logits_of(artefact.model, goal, tuple(texts), settings, artefact.tokenizer)
    probabilities = decision.probabilities(goal, logits)
    decided = decision.decide(goal, probabilities)
    if goal.kind == "rating":
        return [Answer(float(rating), {}) for rating in decided]
    shares = [dict(zip(goal.names, row.tolist(), strict=True)) for row in probabilities]
    if goal.kind == "classes":
        said: list[Any] = [goal.names[place] for place in decided]
    else:
        said = [tuple(n for n, on in zip(goal.names, row, strict=True) if on) for row in decided]
    return [Answer(*pair) for pair in zip(said, shares, strict=True)]


def rules_of_use(use: Mapping[str, Any]) -> tuple[Goal, Decision, Settings]:
    """Return what an artefact's record says about using it."""
    goal = Goal(use["kind"], tuple(use["names"]), "")
    decision = Decision(use["temperature"], use["threshold"], use["positive"])
    return goal, decision, Settings(use["max_tokens"])
