"""A customer at the counter of lesson 16: what was found, how sure it is, or a person instead."""

import html
import textwrap
from collections.abc import Callable, Sequence

import ipywidgets
from matplotlib.figure import Figure

from course_utils.inputs import finite_number
from course_utils.widgets.explorer import LABELS, WIDE, Explorer, Stage, choice

Find = Callable[[str], tuple[str, float]]
PERSON = "I am not sure that I know this. A colleague will answer you."
NAMES = {"customer": "#FDEBD0", "machine": "#D6EAF8", "person": "#E5E7E9"}


def chat_window(find: Find, questions: Sequence[str], threshold: float = 0.5) -> Explorer:
    """Ask one of `questions` or one of your own; below the threshold a person answers.

    Parameters
    ----------
    find : callable
        From a question to the best answer and the confidence in it, from 0 to 1.
    questions : sequence of str
        To choose from, one at least.
    threshold : float
        Where the control begins, from 0 to 1.

    Raises
    ------
    ValueError
        If there is no question, or the threshold is out of range.

    Examples
    --------
    >>> window = chat_window(lambda question: ("Try another port.", 0.8), ["mouse is dead"])
    >>> print(window.said)
    Confidence 0.80, threshold 0.50: the machine answers.
    >>> window.controls["threshold"].value = 0.9
    >>> print(window.said)
    Confidence 0.80, threshold 0.90: handed over to a person.
    """
    if not questions or not 0 <= finite_number(threshold, "threshold") <= 1:
        raise ValueError(
            f"need a question and a threshold from 0 to 1; got {list(questions)} and {threshold}"
        )

    def turns(question: str, threshold: float) -> tuple[list[tuple[str, str]], str]:
        """Return who said what, and the words below."""
        answer, sure = find(question)
        ours = sure >= threshold
        who = "machine" if ours else "person"
        verdict = "the machine answers" if ours else "handed over to a person"
        said = f"Confidence {sure:.2f}, threshold {threshold:.2f}: {verdict}."
        return [("customer", question), (who, answer if ours else PERSON)], said

    def step(question: str, own: str, threshold: float) -> tuple[str, str]:
        talk, said = turns(own.strip() or question, threshold)
        bubbles = [
            f'<div style="margin: 4px; padding: 4px 10px; border-radius: 8px; color: black; '
            f'max-width: 40em; background: {NAMES[who]}"><b>{who}:</b> {html.escape(text)}</div>'
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
            step=0.05,
            description="Answer from",
            style=LABELS,
            layout=WIDE,
        ),
    }
    return Explorer(controls, step, _drawn(*turns(questions[0], threshold)))


def _drawn(talk: Sequence[tuple[str, str]], said: str) -> bytes:
    """Return a picture of the conversation, for where no kernel runs."""
    figure = Figure(figsize=(8, 0.8 + 0.7 * len(talk)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(-len(talk) - 0.5, 0.5))
    for row, (who, text) in enumerate(talk):
        shown = textwrap.shorten(f"{who}: {text}", 160, placeholder=" ...")
        box = {"boxstyle": "round,pad=0.4", "facecolor": NAMES[who], "edgecolor": "black"}
        axes.text(0.01, -row, textwrap.fill(shown, 85), va="center", fontsize=9, bbox=box)
    axes.text(0.01, -len(talk), said, va="center", fontsize=9)
    return Stage(figure, []).png()
