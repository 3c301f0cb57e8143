"""From a table to a model with its report, in one function: what ``course finetune`` does.

Read, audit, divide, seal; baselines; fine-tune; choose on validation; open the test set, once;
write the report and the artefact. Every stage is either found in the folder or done, so a run
that was killed goes on from where it was, and ends as if nothing had happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.artefacts import MODULES, made_of, write_artefact
from course_utils.intervals import Interval
from course_utils.models import load_tokenizer
from course_utils.own_data import outcome as found_by
from course_utils.own_data.baselines import fit_baseline, majority
from course_utils.own_data.decisions import choose, gain, headline, scores_of
from course_utils.own_data.folders import RunOfOwnData
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import OwnSplits, Part
from course_utils.own_data.plans import Plan, Settings, make_plan
from course_utils.own_data.reports import model_card, report_page
from course_utils.own_data.requests import (
    CannotWork,
    Looked,
    Request,
    in_a_line,
    look,
    refusal,
    write_audit,
)
from course_utils.own_data.tuning import Tuned, fine_tune, logits_of, seconds_per_text, usual_rate

QUICK_MINUTES = 2.0
PURPOSE = "the report of course finetune"
# Whatever leads from a table to weights and a threshold; a change in it is another run.
MADE_BY = (
    *MODULES,
    *("recipe", "regularization", "thresholds"),
    *(f"own_data.{name}" for name in ("encodings", "textfiles", "tables", "goals", "cleaning")),
    *(f"own_data.{name}" for name in ("parts", "decisions", "plans", "tuning")),
)


def finetune(
    request: Request, *, resume: bool = False, say: Callable[[str], object] = print
) -> Path:
    """Make a model of a table, with its report and its card; return the folder.

    Parameters
    ----------
    request : Request
    resume : bool
        Continue a run that did not end.
    say : callable
        Gets a line about each stage.

    Returns
    -------
    Path
        With ``report.html``, ``audit.html``, ``model_card.md``, ``results.json`` and ``model/``,
        an artefact as `artefacts.load_artefact` and ``course serve`` take it.

    Raises
    ------
    CannotWork
        If the audit finds that nothing can be trained; ``audit.html`` is written all the same.
    ValueError
        If an argument is out of range, the table cannot be read, or the folder is taken.
    """
    RunOfOwnData.refuse_if_taken(request.folder, resume=resume)  # before the minutes, not after
    say(f"1/5  reading {request.path.name}")
    looked = look(request)
    goal, table, found = looked.goal, looked.table, looked.audit
    say(f"     {found.used:,} of {found.total:,} rows can be used; {goal.why}")
    for note in table.notes:
        say(f"     note: {note}")
    if found.stops:
        write_audit(request, looked)
        raise CannotWork(refusal(found, request.folder))
    splits = OwnSplits(looked.rows, goal, request.seed)
    settings = Settings(found.max_tokens, lr=request.lr or usual_rate(), seed=request.seed)
    asked = asdict(request) | {"path": request.path.name, "out": ""}
    recipe = {**asked, "settings": asdict(settings)}
    record = made_of(recipe, fine_tune, table.sha256, MADE_BY)
    run = RunOfOwnData(request.folder, record, resume=resume)
    try:
        write_audit(request, looked)
        for finding in found.findings:
            say(f"     {in_a_line(finding)}")
        _train_and_report(request, looked, splits, settings, record, run, say)
    finally:
        run.close()
    return request.folder


def _train_and_report(
    request: Request,
    looked: Looked,
    splits: OwnSplits,
    settings: Settings,
    record: dict[str, Any],
    run: RunOfOwnData,
    say: Callable[[str], object],
) -> None:
    goal, tokenizer = looked.goal, load_tokenizer()
    plan = _planned(request, goal, splits, settings, run)
    train, validation = affordable_rows(goal, splits.train, plan), splits.validation
    everyone = splits.train  # counting takes seconds: no time is so short that it cannot have all
    say(f"2/5  baselines on {len(everyone):,} training rows, judged on {len(validation):,}")
    linear = fit_baseline(goal, everyone, validation, request.miss)
    name, score = headline(goal)
    said = linear.decide(goal, validation)
    say(f"     counted words: {name} {score(validation.targets, said):.3f}; {linear.chosen}")

    say(f"3/5  fine-tuning: {_time_words(plan)}. Interrupt it when you like: --resume continues")
    for cut in plan.cuts:
        say(f"     for want of time: {cut}")

    def tune(rows: int) -> Tuned:
        part, place = train.first(rows), run.checkpoints(f"{rows}-rows")
        return fine_tune(
            goal, part, validation, settings, tokenizer, plan, folder=place, resume=True
        )

    tuned = tune(len(train))
    decision = choose(goal, tuned.logits, validation.targets, request.miss)
    use = decision.use(goal, settings.max_tokens)
    probabilities = decision.probabilities(goal, tuned.logits)
    decided = decision.decide(goal, probabilities)
    say(f"     fine-tuned: {name} {score(validation.targets, decided):.3f} on validation")
    say("4/5  learning curve: what would more labels buy?")
    if len(train) < len(everyone):  # the curve compares at equal rows
        said = fit_baseline(goal, train, validation, request.miss).decide(goal, validation)
    full = {found_by.MODEL: decided, found_by.LINEAR: said}
    points, last, who = _curve(request, goal, train, validation, plan, tune, full)

    say("5/5  opening the test set, once")
    test = splits.unseal(PURPOSE)
    logits = logits_of(tuned.model, goal, test.texts, settings, tokenizer)
    others = {
        found_by.LINEAR: linear.decide(goal, test),
        found_by.SAME: majority(goal, everyone, len(test)),
    }
    outcome = found_by.outcome(goal, test, logits, decision, others)
    content = {
        "table": looked.table,
        "goal": goal,
        "audit": looked.audit,
        "sizes": splits.sizes,
        "group": request.group,
        "plan": plan,
        "decision": decision,
        "linear": linear.chosen,
        "points": points,
        "outcome": outcome,
        "scores": list(scores_of(goal)),
        "verdict": found_by.verdict(goal, outcome.better),
        "more": found_by.what_more_buys(points, last, who),
        "mistakes": found_by.mistakes(goal, validation, probabilities, decided),
        "history": tuned.history,
        "recipe": _recipe(settings, plan, tuned, record),
        "range": [float(np.min(train.targets)), float(np.max(train.targets))],
        "texts": looked.table.cells[request.text],
    }
    card, model = model_card(content), run.path / "model"
    write_artefact(tuned.model, {**record, "use": use}, goal.names, model, card)
    run.write("model_card.md", card)  # the same, for people to complete
    run.write("report.html", report_page(content))
    kept = ("sizes", "plan", "decision", "points", "outcome", "verdict", "more", "recipe")
    run.finish({name: content[name] for name in kept} | {"goal": goal})
    say(f"     {content['verdict']}")
    say(f"     see {run.path / 'report.html'}; the model is in {model}")


def _planned(
    request: Request, goal: Goal, splits: OwnSplits, settings: Settings, run: RunOfOwnData
) -> Plan:
    """Return the plan of this run: that of its folder, or a new one, after a few steps' timing."""

    def plan() -> dict[str, Any]:
        speed = seconds_per_text(goal, splits.train, settings, load_tokenizer())
        return asdict(
            make_plan(
                len(splits.train),
                len(splits.validation),
                speed,
                test=splits.sizes[2],
                minutes=QUICK_MINUTES if request.quick else request.minutes,
                epochs=request.epochs,
                curve=request.curve and not request.quick,
            )
        )

    found = run.remembered("plan.json", plan)
    return Plan(**found | {name: tuple(found[name]) for name in ("curve", "cuts")})


def affordable_rows(goal: Goal, train: Part, plan: Plan) -> Part:
    """Return the training rows that the plan has time for.

    Raises
    ------
    ValueError
        If they are all of one class: the rarer one comes later.
    """
    rows = train.first(plan.rows)
    if goal.kind == "classes" and len(np.unique(rows.targets)) < 2:
        raise ValueError(
            f"there is time for {len(rows):,} of {len(train):,} training rows, and all of these "
            f"are {goal.words(rows.targets[0])!r}: give it more --minutes"
        )
    return rows


def _curve(
    request: Request,
    goal: Goal,
    train: Part,
    validation: Part,
    plan: Plan,
    tune: Callable[[int], Tuned],
    full: dict[str, np.ndarray],
) -> tuple[list[found_by.CurvePoint], Interval | None, str]:
    """Return the learning curve, what the last doubling gained, and whose gain that is.

    `full` holds what the model and the linear one say after training on all rows.
    """
    _, score = headline(goal)
    points, last, who = list[found_by.CurvePoint](), None, found_by.LINEAR
    for rows in (len(train) // 4, len(train) // 2, len(train)):
        if rows < max(8, 2 * len(goal.names)):
            continue
        said = full
        if rows < len(train):
            linear = fit_baseline(goal, train.first(rows), validation, request.miss)
            said = {found_by.LINEAR: linear.decide(goal, validation)}
            if rows in plan.curve:
                logits = tune(rows).logits
                decision = choose(goal, logits, validation.targets, request.miss)
                decided = decision.decide(goal, decision.probabilities(goal, logits))
                said[found_by.MODEL] = decided
            who = found_by.MODEL if found_by.MODEL in said else found_by.LINEAR
            last = gain(goal, validation.targets, full[who], said[who])
        scores = {name: score(validation.targets, each) for name, each in said.items()}
        point = found_by.CurvePoint(rows, scores[found_by.LINEAR], scores.get(found_by.MODEL))
        points.append(point)
    return points, last, f"the {who} model" if who == found_by.MODEL else who


def _time_words(plan: Plan) -> str:
    count, epochs = 1 + len(plan.curve), plan.epochs
    what = f"{count} training{'s' * (count > 1)} of at most {epochs} epoch{'s' * (epochs > 1)}"
    if plan.seconds < 60:
        return f"{what}, less than a minute in all"
    return f"{what}, about {max(1, round(plan.seconds / 60))} min in all"


def _recipe(
    settings: Settings, plan: Plan, tuned: Tuned, record: Mapping[str, Any]
) -> dict[str, Any]:
    stopped = " (validation loss no longer fell)" if tuned.history.stopped_early else ""
    return {
        "epochs": f"{len(tuned.history.epochs)} of at most {plan.epochs}{stopped}",
        "weights kept": f"of step {tuned.history.best.step}, the lowest validation loss",
        "head began": "as a linear probe of the untouched encoder's vectors",
        "learning rate": settings.lr,
        "texts in a batch": settings.batch_size,
        "seed": settings.seed,
        "encoder": record["encoder"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
