"""A customer at the counter of lesson 16: what was found, how sure it is, or a person instead."""

import html
import textwrap
from collections.abc import Callable, Sequence

import ipywidgets
from matplotlib.figure import Figure

from course_utils.inputs import finite_number, whole_number
from course_utils.widgets.explorer import LABELS, WIDE, Explorer, Stage, choice, counted

Find = Callable[[str], tuple[str, float]]
PERSON = "I am not sure that I know this. A colleague will answer you."
SHOWN = 300  # characters of a question in its bubble
NAMES = {"customer": "#FDEBD0", "machine": "#D6EAF8", "person": "#E5E7E9"}


def chat_window(
    find: Find,
    questions: Sequence[str],
    threshold: float = 0.5,
    words_read: int | None = None,
) -> Explorer:
    """Ask one of `questions` or one of your own; below the threshold a person answers.

    Confidence and threshold are compared as they are shown, with three digits.

    Parameters
    ----------
    find : callable
        From a question to the best answer and the confidence in it, from 0 to 1.
    questions : sequence of str
        To choose from, one at least.
    threshold : float
        Where the control begins, from 0 to 1.
    words_read : int, optional
        How many words `find` reads of a question, if not all: of a longer one the window says so.

    Raises
    ------
    ValueError
        If there is no question, the threshold is out of range, or no word is read.

    Examples
    --------
    >>> window = chat_window(lambda question: ("Try another port.", 0.8), ["mouse is dead"])
    >>> print(window.said)
    Question 1 of 1. Confidence 0.800, threshold 0.500: the machine answers.
    >>> window.controls["threshold"].value = 0.9
    >>> print(window.said)
    Question 1 of 1. Confidence 0.800, threshold 0.900: handed over to a person.
    """
    if not questions or not 0 <= finite_number(threshold, "threshold") <= 1:
        raise ValueError(
            f"need a question and a threshold from 0 to 1; got {list(questions)} and {threshold}"
        )
    if words_read is not None:
        whole_number(words_read, "words_read", least=1)

    def turns(question: str, own: str, threshold: float) -> tuple[list[tuple[str, str]], str]:
        """Return who said what, and the words below."""
        asked = own.strip() or question
        which = "Your own question (clear it or move the slider for another)."
        if not own.strip():
            which = f"Question {list(questions).index(question) + 1} of {len(questions)}."
        answer, sure = find(asked)
        sure, threshold = round(sure, 3), round(threshold, 3)
        ours = sure >= threshold
        who = "machine" if ours else "person"
        verdict = "the machine answers" if ours else "handed over to a person"
        said = f"{which} Confidence {sure:.3f}, threshold {threshold:.3f}: {verdict}."
        count = len(asked.split())
        if words_read is not None and count > words_read:
            said += f" Only the first {words_read} of its {count:,} words are read."
        return [("customer", asked), (who, answer if ours else PERSON)], said

    def step(question: str, own: str, threshold: float) -> tuple[str, str]:
        (customer, reply), said = turns(question, own, threshold)
        talk = [(customer[0], _beginning(customer[1], SHOWN)), reply]
        bubbles = [
            f'<div style="margin: 4px; padding: 4px 10px; border-radius: 8px; color: black; '
            f'max-width: 40em; overflow-wrap: anywhere; background: {NAMES[who]}">'
            f"<b>{who}:</b> {html.escape(text)}</div>"
            for who, text in talk
        ]
        return "".join(bubbles), html.escape(said)

    controls = {
        "question": choice(
            [(f"{i} of {len(questions)}", text) for i, text in enumerate(questions, start=1)],
            "Question",
        ),
        "own": ipywidgets.Text(
            description="or your own",
            placeholder="type, then Enter",
            continuous_update=False,  # searching after every letter would lag behind the typing
            style=LABELS,
            layout=WIDE,
        ),
        "threshold": ipywidgets.FloatSlider(
            value=threshold,
            min=0,
            max=1,
            step=0.01,
            readout_format=".3f",
            description="Answer from",
            style=LABELS,
            layout=WIDE,
        ),
    }

    def chosen(_: object) -> None:  # who moves the slider wants that question, not the typed one
        controls["own"].value = ""

    controls["question"].observe(chosen, names="value")
    return Explorer(controls, step, _drawn(*turns(questions[0], "", threshold)))


def _beginning(text: str, most: int) -> str:
    """Return the text; of a long one the beginning, and how much was left out.

    Examples
    --------
    >>> _beginning("My mouse is dead.", 8)
    'My mouse ... (9 characters more)'
    """
    left = len(text) - most
    return f"{text[:most]} ... ({counted(left, 'character')} more)" if left > 0 else text


def _drawn(talk: Sequence[tuple[str, str]], said: str) -> bytes:
    """Return a picture of the conversation, for where no kernel runs."""
    figure = Figure(figsize=(8, 0.8 + 0.7 * len(talk)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(-len(talk) - 0.5, 0.5))
    for row, (who, text) in enumerate(talk):
        shown = f"{who}: {_beginning(text, 140)}"
        box = {"boxstyle": "round,pad=0.4", "facecolor": NAMES[who], "edgecolor": "black"}
        axes.text(0.01, -row, textwrap.fill(shown, 85), va="center", fontsize=9, bbox=box)
    axes.text(0.01, -len(talk), textwrap.fill(said, 110), va="center", fontsize=9)
    return Stage(figure, []).png()
