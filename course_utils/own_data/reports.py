"""The pages of a run: audit, report and model card, each one file that needs no other.

Templates hold all the wording (`pages/`), Jinja2 fills them in and escapes what comes from
people's texts, so that a text with a script in it is shown and not run.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from course_utils.cards import HOW_GOOD, open_questions
from course_utils.intervals import Interval
from course_utils.own_data import figures
from course_utils.own_data.audit import Audit
from course_utils.own_data.decisions import Decision
from course_utils.own_data.goals import Goal
from course_utils.own_data.tables import Cell, Table

MOST_CONFUSED = 12  # classes; more do not fit a figure


def audit_page(table: Table, goal: Goal, audit: Audit, texts: Sequence[Cell]) -> str:
    """Return what was found in the data, as a page."""
    return _fill("audit.html", table=table, goal=goal, audit=audit, texts=texts, **_data(audit))


def report_page(content: Mapping[str, Any]) -> str:
    """Return the report; `content` is what `finetune` has found, by the template's names."""
    goal, outcome, points = content["goal"], content["outcome"], content["points"]
    score = content["scores"][0]
    small = outcome.confusion is not None and len(goal.names) <= MOST_CONFUSED
    return _fill(
        "report.html",
        compared=figures.intervals_figure(
            {name: found[score] for name, found in outcome.scores.items()}, score
        ),
        confusion=figures.confusion_figure(outcome, goal) if small else None,
        reliability=figures.reliability_figure(outcome) if outcome.reliability else None,
        curve=figures.curve_figure(points, score) if len(points) > 1 else None,
        training=figures.training_figure(content["history"]),
        threshold=threshold_words(goal, content["decision"]),
        **_data(content["audit"]),
        **content,
    )


def model_card(content: Mapping[str, Any]) -> str:
    """Return the model card, as Markdown; it says how good the model is, and asks the rest."""
    words = {
        "threshold": threshold_words(content["goal"], content["decision"]),
        "questions": open_questions(known=[HOW_GOOD]),
    }
    return re.sub(r"\n{3,}", "\n\n", _fill("model_card.md", **words, **content))


def threshold_words(goal: Goal, decision: Decision) -> str:
    """Return what the threshold says, in a sentence.

    Examples
    --------
    >>> threshold_words(Goal("classes", ("ham", "spam"), ""), Decision(1.0, 0.3, 1))
    'It says spam from a probability of 0.30 on, and ham below.'
    """
    if decision.threshold is None:
        return ""
    if decision.positive is None:
        return f"It says a tag from a probability of {decision.threshold:.2f} on."
    yes, no = goal.names[decision.positive], goal.names[1 - decision.positive]
    return f"It says {yes} from a probability of {decision.threshold:.2f} on, and {no} below."


def _data(audit: Audit) -> dict[str, Any]:
    return {
        "counts": figures.counts_figure(audit) if audit.counts else None,
        "lengths": figures.lengths_figure(audit) if audit.used else None,
    }


def _fill(name: str, **content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("course_utils.own_data", "pages"),
        autoescape=lambda template: bool(template and template.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"thousands": "{:,}".format, "interval": interval_words}
    environment.filters |= {**filters, "sentence": sentence, "beginning": beginning}
    return environment.get_template(name).render(**content)


def sentence(text: str) -> str:
    """Return a text with a capital at its beginning and a mark at its end.

    Examples
    --------
    >>> sentence("3 rows have no text"), sentence("is it the right column?")
    ('3 rows have no text.', 'Is it the right column?')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def beginning(text: str, most: int = 300) -> str:
    """Return a text, or its beginning and how much is not shown."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} letters more)"


def interval_words(found: Interval) -> str:
    """Return a number with its interval, short.

    Examples
    --------
    >>> interval_words(Interval(0.8, 0.75, 0.851))
    '0.800 (0.750 to 0.851)'
    """
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
