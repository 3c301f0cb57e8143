"""Items of lesson 15: behaviour, groups, abstaining, membership, deletion, a crooked way."""

from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.calls import lesson_15 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.grading.wire import Tensor

# --- three kinds of behaviour test --------------------------------------------------------------


def behaviour_cases(generator: np.random.Generator) -> list[Case]:
    """Each kind with both signs; scores of exactly zero, and scores that do not move."""
    cases = []
    for kind in ("minimum", "invariance", "direction"):
        for sign in (1, -1):
            before = generator.normal(0, 1, 12).round(2)
            after = before + generator.normal(0, 1, 12).round(2)
            before[:2], after[1:4] = 0.0, before[1:4]
            before[4], after[4], after[5] = 0.5, 0.0, -0.0
            inputs = {"kind": kind, "before": before, "after": after, "sign": sign}
            cases.append(Case(f"{kind}, sign {sign}", inputs))
    return cases


def failures(kind: str, before: np.ndarray, after: np.ndarray, sign: int) -> np.ndarray:
    """Return which texts the model failed on."""
    if kind == "minimum":
        return np.sign(before) != sign
    if kind == "invariance":
        return (before > 0) != (after > 0)
    return sign * (after - before) < 0


BEHAVIOUR = Item(
    name="15.failures",
    title="Three kinds of behaviour test",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=behaviour_cases,
    reference=failures,
    withheld=("course_utils.behaviour.BehaviourTest",),
    diagnoses=(
        Mistake(
            "silence_passes",
            "minimum functionality: a score of zero passes. Who says nothing has not answered",
            edit(failures, "np.sign(before) != sign", "sign * before < 0"),
        ),
        Mistake(
            "minimum_after",
            "minimum functionality: you look at the score after a change. It is the score before "
            "that must have the sign",
            edit(failures, "np.sign(before) != sign", "np.sign(after) != sign"),
        ),
        Mistake(
            "any_change",
            "invariance: every change of the number counts. It is the side that must not change",
            edit(failures, "(before > 0) != (after > 0)", "before != after"),
        ),
        Mistake(
            "three_sides",
            "invariance: zero is taken for a side of its own. Above zero is positive, all else not",
            edit(failures, "(before > 0) != (after > 0)", "np.sign(before) != np.sign(after)"),
        ),
        Mistake(
            "must_move",
            "direction: a score that stays counts as a failure. It must not go back; it may stay",
            edit(failures, "(after - before) < 0", "(after - before) <= 0"),
        ),
        Mistake(
            "where_it_ends",
            "direction: you look at where the score ends. Look at how it moved",
            edit(failures, "(after - before)", "after"),
        ),
        Mistake(
            "one_way",
            "direction: the sign is not used, so that only upward moves are right",
            edit(failures, "sign * (after", "(after"),
        ),
        Mistake(
            "backwards",
            "direction: before and after are exchanged",
            edit(failures, "(after - before)", "(before - after)"),
        ),
        Mistake(
            "passes",
            "you return who passed: return who failed",
            edit(failures, "!= sign", "== sign", ") != (", ") == (", ") < 0", ") >= 0"),
        ),
    ),
)

# --- equalised odds -----------------------------------------------------------------------------


def odds_cases(generator: np.random.Generator) -> list[Case]:
    """Return groups of unequal size with unequal shares of positive labels."""
    cases = []
    for N, share in ((40, 0.3), (120, 0.5), (25, 0.6)):
        group = (generator.random(N) < share).astype(int)
        labels = (generator.random(N) < 0.35 + 0.3 * group).astype(int)
        predictions = np.where(generator.random(N) < 0.3 - 0.1 * group, 1 - labels, labels)
        for i, (g, label) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            group[i], labels[i] = g, label
        inputs = {"labels": labels, "predictions": predictions, "group": group}
        cases.append(Case(f"{N} rows", inputs))
    worse = {"labels": [1, 1, 1, 1, 0, 0, 0, 0], "predictions": [1, 1, 1, 0, 0, 1, 0, 0]}
    inputs = {name: np.array(row) for name, row in worse.items()}
    cases.append(Case("group 1 has less of both", inputs | {"group": np.array([0, 0, 1, 1] * 2)}))
    return cases


def odds_gaps(
    labels: np.ndarray, predictions: np.ndarray, group: np.ndarray
) -> tuple[float, float]:
    """Return the gaps in true and in false positive rate, group 1 minus group 0."""
    gaps = []
    for label in (1, 0):
        rates = [predictions[(labels == label) & (group == g)].mean() for g in (0, 1)]
        gaps.append(float(rates[1] - rates[0]))
    return gaps[0], gaps[1]


ODDS = Item(
    name="15.odds_gaps",
    title="Equalised odds",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=odds_cases,
    reference=odds_gaps,
    withheld=("course_utils.behaviour.rate_gaps",),
    diagnoses=(
        Mistake(
            "parity",
            "the label is not used: this compares shares of positive judgements (demographic "
            "parity). Take the rows of one label at a time",
            edit(odds_gaps, "(labels == label) & ", ""),
        ),
        Mistake(
            "precision",
            "you ask what the label is where the prediction is known. Ask what the prediction is "
            "where the label is known",
            edit(odds_gaps, "predictions[(labels == label)", "labels[(predictions == label)"),
        ),
        Mistake(
            "accuracy",
            "the second is the gap in true negative rate: false positives are predictions of 1 "
            "among labels of 0",
            edit(odds_gaps, "predictions[(labels", "(predictions == label)[(labels"),
        ),
        Mistake(
            "group_order",
            "the difference is group 0 minus group 1",
            edit(odds_gaps, "rates[1] - rates[0]", "rates[0] - rates[1]"),
        ),
        Mistake(
            "label_order",
            "the two are exchanged: the gap in true positive rate comes first",
            edit(odds_gaps, "gaps[0], gaps[1]", "gaps[1], gaps[0]"),
        ),
        Mistake(
            "sizes",
            "the gaps have no direction any more: keep the sign, it says for whom it is worse",
            edit(odds_gaps, "float(rates[1] - rates[0])", "abs(float(rates[1] - rates[0]))"),
        ),
    ),
)

# --- knowing when not to answer -----------------------------------------------------------------


def abstain_cases(generator: np.random.Generator) -> list[Case]:
    """Risks that rise and fall, equal confidences, limits that cannot be met."""
    cases = []
    for N, most in ((30, 0.2), (60, 0.1), (40, 0.25)):
        confidence = generator.random(N).round(3)
        wrong = generator.random(N) < 0.5 - 0.45 * confidence
        cases.append(Case(f"{N} texts, limit {most}", _abstain(confidence, wrong, most)))
    coarse = generator.integers(1, 5, 40) / 4
    wrong = generator.random(40) < 0.6 - 0.5 * coarse
    cases.append(Case("many equal confidences", _abstain(coarse, wrong, 0.25)))
    dip = _abstain([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [False, True, False, False, False, True], 0.25)
    cases.append(Case("the risk rises and falls again", dip))
    tied = _abstain([0.9, 0.8, 0.8, 0.8, 0.1], [False, False, True, True, True], 0.4)
    cases.append(Case("a limit inside a tie", tied))
    never = _abstain([0.9, 0.5, 0.4], [True, False, True], 0.1)
    cases.append(Case("a limit that cannot be met", never))
    cases.append(Case("never wrong", _abstain([0.3, 0.2], [False, False], 0.0)))
    return cases


def _abstain(confidence: Any, wrong: Any, most: float) -> dict[str, Any]:
    return {"confidence": np.array(confidence), "wrong": np.array(wrong), "most": most}


def abstain(confidence: np.ndarray, wrong: np.ndarray, most: float) -> tuple[float, float]:
    """Return the largest coverage whose selective risk is at most `most`, and its threshold."""
    best = (0.0, float("inf"))
    for threshold in np.unique(confidence)[::-1]:
        answered = confidence >= threshold
        risk = wrong[answered].mean()
        if risk <= most:
            best = (float(answered.mean()), float(threshold))
    return best


def cut_in_a_tie(confidence: np.ndarray, wrong: np.ndarray, most: float) -> tuple[float, float]:
    """Go down the sorted list row by row: rows of one confidence are torn apart."""
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    fine = np.flatnonzero(risk <= most)
    if not len(fine):
        return 0.0, float("inf")
    return float((fine[-1] + 1) / len(order)), float(confidence[order[fine[-1]]])


ABSTAIN = Item(
    name="15.abstain",
    title="Knowing when not to answer",
    **Rating(difficulty=3, importance=4, minutes=20, points=3),
    cases=abstain_cases,
    reference=abstain,
    withheld=("course_utils.behaviour.risk_coverage",),
    diagnoses=(
        Mistake(
            "first_crossing",
            "you stop where the risk first exceeds the limit. It may fall again further down: take "
            "the largest coverage at which it is met",
            edit(
                abstain,
                "float(threshold))\n",
                "float(threshold))\n        else:\n            break\n",
            ),
        ),
        Mistake(
            "of_all",
            "mistakes are divided by all texts: the selective risk is their share among the texts "
            "that are answered",
            edit(abstain, "wrong[answered].mean()", "wrong[answered].sum() / len(wrong)"),
        ),
        Mistake(
            "torn_tie",
            "texts of equal confidence are torn apart: a threshold answers all of them or none",
            cut_in_a_tie,
        ),
        Mistake(
            "above_only",
            "the threshold itself is left out: answer from it on, >=",
            edit(abstain, "confidence >=", "confidence >"),
        ),
        Mistake(
            "least_sure",
            "the least sure texts are answered first",
            edit(abstain, "confidence >=", "confidence <=", "[::-1]", ""),
        ),
        Mistake(
            "below_only",
            "a risk of exactly the limit is allowed: at most",
            edit(abstain, "risk <=", "risk <"),
        ),
    ),
)

# --- who was in the training set? ---------------------------------------------------------------


def member_cases(generator: np.random.Generator) -> list[Case]:
    """Losses that overlap, equal losses, groups of unequal size."""
    cases = []
    for members, strangers, shift in ((20, 20, 0.5), (8, 30, 0.1), (40, 15, 1.5)):
        inputs = {
            "member_losses": generator.exponential(0.5, members),
            "stranger_losses": generator.exponential(0.5, strangers) + shift,
        }
        cases.append(Case(f"{members} members, {strangers} strangers", inputs))
    coarse = {
        name: generator.integers(0, 4, 15) / 2 for name in ("member_losses", "stranger_losses")
    }
    cases.append(Case("many equal losses", coarse))
    same = {"member_losses": np.zeros(4), "stranger_losses": np.zeros(6)}
    cases.append(Case("all losses alike", same))
    return cases


def membership_auc(member_losses: np.ndarray, stranger_losses: np.ndarray) -> float:
    """Return the chance that of a member and a stranger the member has the lower loss."""
    lower = member_losses[:, None] < stranger_losses
    equal = member_losses[:, None] == stranger_losses
    return float(lower.mean() + 0.5 * equal.mean())


MEMBER = Item(
    name="15.membership_auc",
    title="Who was in the training set?",
    **Rating(difficulty=2, importance=3, minutes=10, points=2),
    cases=member_cases,
    reference=membership_auc,
    diagnoses=(
        Mistake(
            "ties_lost",
            "equal losses count for the stranger: a guess between two alike is right half the time",
            edit(membership_auc, " + 0.5 * equal.mean()", ""),
        ),
        Mistake(
            "ties_won",
            "equal losses count for the member: a guess between two alike is right half the time",
            edit(membership_auc, "0.5 * equal", "equal"),
        ),
        Mistake(
            "upside_down",
            "members are taken to have the higher loss: what was learned has the lower one",
            edit(membership_auc, "[:, None] <", "[:, None] >"),
        ),
        Mistake(
            "cut_in_the_middle",
            "this is the accuracy of one threshold: the AUC is over all pairs",
            lambda member_losses, stranger_losses: float(
                np.mean(
                    [
                        np.mean(member_losses < np.median(np.r_[member_losses, stranger_losses])),
                        np.mean(
                            stranger_losses >= np.median(np.r_[member_losses, stranger_losses])
                        ),
                    ]
                )
            ),
        ),
        Mistake(
            "means_only",
            "you compare the means: compare every member with every stranger",
            lambda member_losses, stranger_losses: float(
                member_losses.mean() < stranger_losses.mean()
            ),
        ),
    ),
)

# --- is the explanation true? -------------------------------------------------------------------


def deletion_cases(generator: np.random.Generator) -> list[Case]:
    """Both sides, tokens that work in pairs, an importance of both signs, scores that cross 0."""
    cases = []
    for T, count, start in ((6, 2, 3.0), (8, 3, -4.0), (5, 1, 2.0), (7, 3, -3.0)):
        pairs = np.triu(generator.normal(0, 0.2, (T, T)), 1)
        alone = generator.normal(0, 0.6, T)
        importance = (alone + generator.normal(0, 0.3, T)).round(3)
        importance[:2] = abs(importance[0]) + 0.7, -abs(importance[1]) - 0.9
        inputs = {
            "alone": alone,
            "pairs": pairs,
            "start": start - float(alone.sum() + pairs.sum()) / 2,
            "importance": importance,
            "count": count,
        }
        side = "positive" if start > 0 else "negative"
        cases.append(Case(f"{T} tokens, {count} of them important, on the {side} side", inputs))
    return cases + [_crossing(generator, side) for side in (1, -1)]


def _crossing(generator: np.random.Generator, side: int) -> Case:
    """Return a text that loses more than its score, whichever of the two kinds is deleted."""
    T, important = 5, generator.permutation(5)[:2]
    importance = generator.uniform(-1, 1, T)
    importance[important] = generator.uniform(1.5, 2.5, 2)
    alone = np.full(T, 5 / 3)  # all others together: 5, of a score of 3
    alone[important] = 2.0  # the important ones together: 4
    pairs = np.triu(generator.uniform(-0.05, 0.05, (T, T)), 1)
    inputs = {
        "alone": side * alone,
        "pairs": pairs,
        "start": float(side * (3.0 - alone.sum()) - pairs.sum()),
        "importance": (side * importance).round(3),
        "count": 2,
    }
    return Case(f"a score of {3 * side} that crosses zero", inputs)


def deletion(
    score: Callable[[np.ndarray], float], importance: np.ndarray, count: int
) -> tuple[float, float]:
    """Return comprehensiveness and sufficiency."""
    kept = np.ones(len(importance), dtype=bool)
    whole = score(kept)
    side = np.sign(whole)
    top = np.argsort(-side * importance, kind="stable")[:count]
    kept[top] = False
    return float(side * (whole - score(kept))), float(side * (whole - score(~kept)))


DELETION = Item(
    name="15.deletion",
    title="Is the explanation true?",
    **Rating(difficulty=3, importance=5, minutes=20, points=3),
    cases=deletion_cases,
    reference=deletion,
    call=calls.delete,
    withheld=("course_utils.explain.deletion",),
    diagnoses=(
        Mistake(
            "upward_only",
            "on a text with a negative score the tokens that push it down are the important ones: "
            "multiply the importance by the side",
            edit(deletion, "-side * importance", "-importance"),
        ),
        Mistake(
            "sizes",
            "tokens of large size count as important, whichever way they push: those against the "
            "answer did not make it",
            edit(deletion, "-side * importance", "-np.abs(importance)"),
        ),
        Mistake(
            "least",
            "the least important tokens are deleted first",
            edit(deletion, "-side * importance", "side * importance"),
        ),
        Mistake(
            "exchanged",
            "the two are exchanged: comprehensiveness deletes the important tokens",
            edit(deletion, "kept[top] = False", "kept[top] = False\n    kept = ~kept"),
        ),
        Mistake(
            "no_side",
            "what is lost on the negative side comes out negative: multiply by the side",
            edit(
                deletion,
                *("float(side * (whole - score(kept)))", "float(whole - score(kept))"),
                *("float(side * (whole - score(~kept)))", "float(whole - score(~kept))"),
            ),
        ),
        Mistake(
            "not_across_zero",
            "a score that crosses zero loses more than it had: from 3 to -1 the loss is 4. Take "
            "the difference of the two scores, times the side, not of their sizes",
            edit(
                deletion,
                *("side * (whole - score(kept))", "abs(whole) - abs(score(kept))"),
                *("side * (whole - score(~kept))", "abs(whole) - abs(score(~kept))"),
            ),
            edit(
                deletion,
                *("side * (whole - score(kept))", "abs(whole) - max(0.0, side * score(kept))"),
                *("side * (whole - score(~kept))", "abs(whole) - max(0.0, side * score(~kept))"),
            ),
        ),
        Mistake(
            "what_is_left",
            "you return what is left: return what is lost, against the whole text",
            edit(
                deletion,
                *("float(side * (whole - score(kept)))", "float(side * score(kept))"),
                *("float(side * (whole - score(~kept)))", "float(side * score(~kept))"),
            ),
        ),
    ),
)

# --- bug hunt: a way that is not one ------------------------------------------------------------


def way_cases(generator: np.random.Generator) -> list[Case]:
    """Small models of word vectors, baselines away from zero, few and many steps."""
    cases = []
    for T, D, C, steps in ((4, 3, 2, 8), (6, 4, 3, 3), (3, 5, 3, 20)):
        inputs = {
            "first": _tensor(generator.normal(0, 1.2, (D, 6))),
            "second": _tensor(generator.normal(0, 2.0, (6, C))),
            "vectors": _tensor(generator.normal(0, 1, (T, D))),
            "baseline": _tensor(generator.normal(0.4, 0.7, (T, D))),
            "output": C - 1,
            "steps": steps,
        }
        cases.append(Case(f"{T} tokens, {C} classes, {steps} steps", inputs))
    return cases


def _tensor(values: np.ndarray) -> Tensor:
    return Tensor(values.astype(np.float32))


def integrated_gradients(
    model: Callable[[Any], Any], vectors: Any, baseline: Any, output: int, steps: int
) -> Any:
    """Return what each token adds to a logit on the way from the baseline, (T,)."""
    import torch

    shares = (torch.arange(steps) + 0.5) / steps
    way = baseline + shares[:, None, None] * (vectors - baseline)
    way.requires_grad_()
    logits = model(way)
    explained = logits[:, output]
    gradients = torch.autograd.grad(explained.sum(), way)[0]
    return (gradients.mean(dim=0) * (vectors - baseline)).sum(dim=-1)


BUGS = {
    "probability": (
        "a probability is explained: where the model is sure it has hardly a slope. Explain the "
        "logit",
        *("logits[:, output]", "logits.softmax(dim=1)[:, output]"),
    ),
    "from_zero": (
        "the way begins at zero and not at the baseline",
        *(
            "baseline + shares[:, None, None] * (vectors - baseline)\n",
            "shares[:, None, None] * vectors\n",
        ),
    ),
    "times_input": (
        "the mean gradient is multiplied by the input: multiply by the way that was gone, "
        "vectors - baseline, or the parts do not add up to f(x) - f(baseline)",
        *("(dim=0) * (vectors - baseline)", "(dim=0) * vectors"),
    ),
    "ends": (
        "each step is measured at its end: the middle is what the sum is exact for on a straight "
        "slope",
        *("+ 0.5)", "+ 1.0)"),
    ),
}

WAY = Item(
    name="15.integrated_gradients",
    title="Bug hunt: a way that is not one",
    **Rating(difficulty=3, importance=4, minutes=20, points=4),
    cases=way_cases,
    reference=integrated_gradients,
    call=calls.explain,
    rtol=1e-4,
    atol=1e-5,
    withheld=("course_utils.explain.integrated_gradients",),
    diagnoses=(
        *remaining(integrated_gradients, BUGS),
        Mistake(
            "left_ends",
            "each step is measured at its beginning: take the middle",
            edit(integrated_gradients, "+ 0.5)", "+ 0.0)"),
        ),
        Mistake(
            "both_ends",
            "the points go from one end of the way to the other, so that both ends count as much "
            "as what lies between them: take the middle of each step",
            edit(
                integrated_gradients,
                *("(torch.arange(steps) + 0.5) / steps", "torch.linspace(0, 1, steps)"),
            ),
            edit(
                integrated_gradients,
                *("(torch.arange(steps) + 0.5) / steps", "torch.linspace(0, 1, steps + 1)"),
            ),
        ),
        Mistake(
            "too_far",
            "the way begins at the baseline and ends beyond the vectors: add shares of the "
            "difference, vectors - baseline, not of the vectors",
            edit(
                integrated_gradients,
                *("[:, None, None] * (vectors - baseline)\n", "[:, None, None] * vectors\n"),
            ),
        ),
    ),
)

ITEMS = (BEHAVIOUR, ODDS, ABSTAIN, MEMBER, DELETION, WAY)
