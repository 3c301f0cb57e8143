"""A model card: what a kept model is, for the people who are to use it.

The idea is that of Mitchell et al., "Model Cards for Model Reporting" (2019). A card is written by
the program that keeps the model, from what it knows, so that it cannot lag behind. What only people
know (for whom it is meant, what went wrong) is left as questions: an empty answer is seen, a
missing question is not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
        f"## What a program cannot know\n\n{open_}\n"
    )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    return str(value)
