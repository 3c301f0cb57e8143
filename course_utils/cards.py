"""A model card: what a kept model is, for the people who are to use it.

The idea is that of Mitchell et al., "Model Cards for Model Reporting" (2019). A card is written by
the program that keeps the model, from what it knows, so that it cannot lag behind. What only people
know (for whom it is meant, what went wrong) is left as questions: an empty answer is seen, a
missing question is not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MEASURED, PEOPLE = "## What was measured", "## What a program cannot know"
QUESTIONS = (
    "What is it for, and what is it not for?",
    "Whose texts was it trained and tested on, and whose are missing?",
    "How good is it, on which sealed test set, with which interval? For whom is it worse?",
    "Who answers for it, and who is told when it is wrong?",
)


def model_card(name: str, outputs: Sequence[str], record: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    name : str
        Of the model, with its version.
    outputs : sequence of str
        What each output means.
    record : mapping
        What made it, from `artefacts.made_of`.

    Examples
    --------
    >>> print(model_card("m-1", ["rating"], {"recipe": {"lr": 0.1}}).split("##")[0])
    # m-1
    <BLANKLINE>
    Takes a text. Gives: rating.
    <BLANKLINE>
    <BLANKLINE>
    """
    made = "\n".join(f"- {what}: {_words(value)}" for what, value in record.items())
    open_ = "\n\n".join(f"### {question}\n\nNot answered yet." for question in QUESTIONS)
    return (
        f"# {name}\n\nTakes a text. Gives: {', '.join(outputs)}.\n\n## What made it\n\n{made}\n\n"
        "The weights are in `model.safetensors`; `record.json` has a SHA-256 of every file.\n\n"
        f"{PEOPLE}\n\n{open_}\n"
    )


def with_measurements(card: str, measured: Mapping[str, Any]) -> str:
    """Return a card with a section of what was measured since, before what only people know.

    Parameters
    ----------
    card : str
        From `model_card`.
    measured : mapping of str to anything that prints as a number, such as an Interval
        What was measured, and what was found.

    Raises
    ------
    ValueError
        If nothing was measured, or the card has no place for it, or has such a section already.

    Examples
    --------
    >>> card = with_measurements(model_card("m-1", ["rating"], {}), {"right on the test set": 0.8})
    >>> print(card[card.index("## What was measured") :].split("##")[1].strip())
    What was measured
    <BLANKLINE>
    - right on the test set: 0.8
    """
    if not measured or card.count(PEOPLE) != 1 or MEASURED in card:
        raise ValueError(
            f"need measurements, and a card of model_card without any; got {len(measured)} "
            f"measurements and a card that begins {card[:40]!r}"
        )
    rows = "\n".join(f"- {what}: {value}" for what, value in measured.items())
    before, after = card.split(PEOPLE)
    return f"{before}{MEASURED}\n\n{rows}\n\n{PEOPLE}{after}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    return str(value)
