"""A model card: what a kept model is, for the people who are to use it.

The idea is that of Mitchell et al., "Model Cards for Model Reporting" (2019). A card is written by
the program that keeps the model, from what it knows, so that it cannot lag behind. What only people
know (for whom it is meant, what went wrong) is left as questions: an empty answer is seen, a
missing question is not. The card that lies with the weights has a checksum like them, so people
answer in a copy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MEASURED, PEOPLE = "## What was measured", "## What a program cannot know"
HOW_GOOD = "How good is it, on which sealed test set, with which interval? For whom is it worse?"
QUESTIONS = (
    "What is it for, and what is it not for?",
    "Whose texts was it trained and tested on, and whose are missing?",
    HOW_GOOD,
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
    return (
        f"# {name}\n\nTakes a text. Gives: {', '.join(outputs)}.\n\n## What made it\n\n{made}\n\n"
        "The weights are in `model.safetensors`; `record.json` has a SHA-256 of every file.\n\n"
        f"{open_questions()}\n"
    )


def open_questions(known: Sequence[str] = ()) -> str:
    """Return the section of a card that only people can fill in.

    Parameters
    ----------
    known : sequence of str
        Questions that the card answers itself, and so are not asked.

    Examples
    --------
    >>> print(open_questions(known=QUESTIONS[:3]))
    ## What a program cannot know
    <BLANKLINE>
    The card beside the weights has a checksum: answer in a copy of it.
    <BLANKLINE>
    ### Who answers for it, and who is told when it is wrong?
    <BLANKLINE>
    Not answered yet.
    """
    asked = [question for question in QUESTIONS if question not in known]
    sections = [f"### {question}\n\nNot answered yet." for question in asked]
    why = "The card beside the weights has a checksum: answer in a copy of it."
    return "\n\n".join([PEOPLE, why, *sections])


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
