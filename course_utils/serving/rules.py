"""From a model's outputs to what is said: by the rules in its record, or by the usual ones.

A model is tested with one cut of long texts, one temperature, one threshold. Served with others it
is not the model that was tested, and no error message reports that. So whoever trains a model can
write into its record, under ``use``, how it is to be used, and the service keeps to it: `Use` says
what may stand there. A rule that is not known here is refused, for the same reason.

Left out on purpose: rules that a client may set. Two clients would then ask two models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

import torch

from course_utils.inputs import above_0, finite_number, whole_number

Kind = Literal["classes", "tags", "rating"]
KINDS: tuple[str, ...] = get_args(Kind)
RATING = "rating"  # where the record has no rules, an output of this name is a number
USUAL_TOKENS = 128  # where the record has no rules


@dataclass(frozen=True)
class Use:
    """What a model's record says under ``use``: who writes it takes this class too.

    Attributes
    ----------
    kind : {"classes", "tags", "rating"}
        A text gets one of several classes, any number of tags, or one number.
    max_tokens : int
        Longer texts are cut here.
    names : list of str, optional
        The outputs in their order, as a check.
    temperature : float
        Logits are divided by it.
    threshold : float, optional
        A tag is said from this probability on (one half, if None), and so is `positive`.
    positive : int, optional
        Of two classes, the place (0 or 1) of the one that the threshold is for.
    """

    kind: Kind
    max_tokens: int
    names: list[str] | None = None
    temperature: float = 1.0
    threshold: float | None = None
    positive: int | None = None


@dataclass(frozen=True)
class Said:
    """What is said of one text: see `Prediction`."""

    label: str | None
    tags: tuple[str, ...] | None
    probabilities: dict[str, float]
    rating: float | None


@dataclass(frozen=True)
class Rules:
    """How a model is used: a `Use`, checked against the outputs that the model has.

    Attributes
    ----------
    named : dict of str to int
        The column of the logits for each class or tag.
    rated : int or None
        The column that is a number.
    several : bool
        Whether a text has any number of these names (tags), or one (a class).
    max_tokens : int
        Longer texts are cut here.
    temperature : float
        Logits are divided by it.
    threshold : float or None
        A tag is said from this probability on (one half, if None), and so is `positive`.
    positive : str or None
        Of two classes, the one that the threshold is for. None: the likelier class is said.
    """

    named: dict[str, int]
    rated: int | None = None
    several: bool = False
    max_tokens: int = USUAL_TOKENS
    temperature: float = 1.0
    threshold: float | None = None
    positive: str | None = None

    def say(self, logits: torch.Tensor) -> Said:
        """Return what the logits (C,) of one text say.

        Examples
        --------
        >>> Rules({"good": 0, "bad": 1}, threshold=0.3, positive="bad").say(torch.tensor([0.4, 0]))
        Said(label='bad', tags=None, probabilities={'good': 0.598..., 'bad': 0.401...}, rating=None)
        """
        scaled = logits.double()[list(self.named.values())] / self.temperature
        shares = scaled.sigmoid() if self.several else scaled.softmax(dim=0)
        probabilities = dict(zip(self.named, shares.tolist(), strict=True))
        rating = None if self.rated is None else float(logits[self.rated])
        if self.several:
            least = 0.5 if self.threshold is None else self.threshold
            tags = tuple(name for name, share in probabilities.items() if share >= least)
            return Said(None, tags, probabilities, rating)
        return Said(self._label(probabilities), None, probabilities, rating)

    def _label(self, probabilities: dict[str, float]) -> str | None:
        if not probabilities:
            return None
        if self.positive is None or self.threshold is None:
            return max(probabilities, key=probabilities.__getitem__)
        [other] = set(self.named) - {self.positive}
        return self.positive if probabilities[self.positive] >= self.threshold else other

    def card(self) -> dict[str, Any]:
        """Return the rules as plain data, for people."""
        kinds = ["tags" if self.several else "classes"] * bool(self.named)
        return {
            "kind": " and ".join(kinds + ["rating"] * (self.rated is not None)),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "threshold": self.threshold,
            "positive": self.positive,
        }


def rules_of(outputs: Sequence[str], use: Mapping[str, Any] | None) -> Rules:
    """Return the rules of a model.

    Parameters
    ----------
    outputs : sequence of str
        What each column of its logits means.
    use : mapping, optional
        What its record says. Without it an output called ``rating`` is a number and all others are
        classes, of which the likeliest is said.

    Raises
    ------
    ValueError
        If the rules contradict the outputs or each other, or one is not known.

    Examples
    --------
    >>> rules_of(["rating", "bad", "good"], None).named
    {'bad': 1, 'good': 2}
    """
    if use is None:
        columns = {name: place for place, name in enumerate(outputs)}
        rated = columns.pop(RATING, None)
        return Rules(columns, rated)
    if not isinstance(use, Mapping):
        raise ValueError(f"the record's rules of use must be an object, got {use!r}")
    known = {rule.name for rule in fields(Use)}
    needed = {rule.name for rule in fields(Use) if rule.default is MISSING}
    if unknown := sorted(set(use) - known):
        raise ValueError(f"the record has rules of use that are not known here: {unknown}")
    if missing := sorted(needed - set(use)):
        raise ValueError(f"the record's rules of use lack {missing}")
    return _checked(outputs, Use(**use))


def _checked(outputs: Sequence[str], use: Use) -> Rules:
    """Return the rules, unless they contradict the outputs or each other."""
    if use.kind not in KINDS:
        raise ValueError(f"the record's kind of use must be one of {KINDS}, got {use.kind!r}")
    if use.names not in (None, [*outputs]):
        raise ValueError(
            f"the record's rules of use name {use.names}, and the model's outputs are {[*outputs]}"
        )
    threshold, positive = _threshold(outputs, use)
    tokens = whole_number(use.max_tokens, "max_tokens", least=1)
    temperature = above_0(use.temperature, "temperature")
    if use.kind == "rating":
        if len(outputs) != 1:
            raise ValueError(f"a rating is one output, and the model has {[*outputs]}")
        return Rules({}, 0, max_tokens=tokens)
    columns = {name: place for place, name in enumerate(outputs)}
    return Rules(columns, None, use.kind == "tags", tokens, temperature, threshold, positive)


def _threshold(outputs: Sequence[str], use: Use) -> tuple[float | None, str | None]:
    """Return the threshold and the class it is for, if any."""
    kind, threshold, positive = use.kind, use.threshold, use.positive
    if threshold is not None and finite_number(threshold, "threshold", least=0) > 1:
        raise ValueError(f"threshold must be at most 1, got {threshold}")
    if kind == "tags" and positive is None:
        return threshold, None
    if threshold is None and positive is None:
        return None, None
    if kind != "classes" or len(outputs) != 2 or threshold is None or positive is None:
        raise ValueError(
            "a threshold is for tags, or for one of two classes, which is then `positive`; got "
            f"{kind} {[*outputs]} with threshold {threshold} and positive {positive}"
        )
    place = whole_number(positive, "positive", least=0)
    if place > 1:
        raise ValueError(f"positive must be the place of a class, 0 or 1, got {place}")
    return threshold, outputs[place]
