"""Items of lesson 08: when to stop, dropout, decay, a step that hurts, a loop that flatters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from course_utils.grading.calls import lesson_08 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake
from course_utils.grading.wire import Tensor

# --- when to stop -----------------------------------------------------------------------------


def stop_cases(generator: np.random.Generator) -> list[Case]:
    """Curves that recover, that tie, that never get worse, and a noisy one."""
    shift = round(float(generator.uniform(0, 0.5)), 3)
    curves = [
        ("falls, then rises", [0.9, 0.7, 0.6, 0.65, 0.7, 0.8, 0.9], 2),
        ("recovers just in time", [0.9, 0.7, 0.8, 0.6, 0.7, 0.65, 0.5, 0.4], 3),
        ("small dips on the way up", [0.9, 0.5, 0.8, 0.7, 0.6, 0.55, 0.52, 0.51], 3),
        ("a tie", [0.9, 0.5, 0.5, 0.5, 0.4, 0.3], 2),
        ("worse twice, not in a row", [0.9, 0.8, 0.85, 0.7, 0.75, 0.6, 0.5], 2),
        ("falls to the end", [0.9, 0.8, 0.7], 1),
        ("one look", [0.9], 1),
        ("the first is the best", [0.2, 0.5, 0.4, 0.3, 0.1], 3),
    ]
    noisy = (0.5 + np.abs(np.arange(14) - 5) / 20 + generator.normal(0, 0.03, 14)).tolist()
    losses = [(name, [x + shift for x in values], n) for name, values, n in curves]
    losses.append(("a noisy valley", noisy, 3))
    return [Case(f"{name}, patience {n}", {"losses": v, "patience": n}) for name, v, n in losses]


def _stopping(
    off_by_one: bool = False,
    never_resets: bool = False,
    last_look: bool = False,
    ties: bool = False,
    keeps_last: bool = False,
) -> Callable[[list[float], int], tuple[int, int]]:
    """Return the rule with one of its typical mistakes."""

    def early_stopping(losses: list[float], patience: int) -> tuple[int, int]:
        best, waited = 0, 0
        for look in range(1, len(losses)):
            against = losses[look - 1] if last_look else losses[best]
            gain = losses[look] <= against if ties else losses[look] < against
            if losses[look] < losses[best] or (ties and gain):
                best = look
            if gain:
                waited = waited if never_resets else 0
            else:
                waited += 1
            if waited >= patience + off_by_one:
                return look + 1, look if keeps_last else best
        return len(losses), len(losses) - 1 if keeps_last else best

    return early_stopping


def stop_counted_from_one(losses: list[float], patience: int) -> tuple[int, int]:
    looks, best = _stopping()(losses, patience)
    return looks, best + 1


STOP = Item(
    name="08.early_stopping",
    title="When to stop, and what to keep",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=stop_cases,
    reference=_stopping(),
    withheld=("course_utils.regularization.EarlyStopping",),
    diagnoses=(
        Mistake(
            "off_by_one",
            "one look too many: with patience 2, the second look in a row without a new best is "
            "the last one",
            _stopping(off_by_one=True),
        ),
        Mistake(
            "never_resets",
            "looks without a gain are counted over the whole run: a new best starts the count anew",
            _stopping(never_resets=True),
        ),
        Mistake(
            "last_look",
            "a look is compared with the one before it: compare with the best so far. A loss that "
            "has jumped up and creeps down again has not improved",
            _stopping(last_look=True),
        ),
        Mistake(
            "ties",
            "an equal loss is taken for a gain: it must be lower",
            _stopping(ties=True),
        ),
        Mistake(
            "keeps_last",
            "the last look is kept: its weights are those that made you stop. Keep the best one",
            _stopping(keeps_last=True),
        ),
        Mistake(
            "counted_from_one",
            "`best` is an index: the first look is 0",
            stop_counted_from_one,
        ),
    ),
)

# --- dropout ----------------------------------------------------------------------------------


def dropout_cases(generator: np.random.Generator) -> list[Case]:
    """Training and evaluation, several probabilities."""
    cases = []
    for B, D, p in ((6, 5, 0.1), (8, 4, 0.3), (5, 7, 0.75), (3, 3, 0.0)):
        for training in (True, False):
            inputs = {
                "x": generator.normal(1, 1, (B, D)),
                "uniform": generator.random((B, D)),
                "p": p,
                "training": training,
            }
            mode = "training" if training else "evaluation"
            cases.append(Case(f"a {B} by {D} array, p {p}, {mode}", inputs))
    return cases


def _dropout(
    scale: Callable[[float], float] = lambda p: 1 / (1 - p),
    eval_scale: Callable[[float], float] = lambda p: 1.0,
    swapped: bool = False,
    always: bool = False,
    rows: bool = False,
    in_place: bool = False,
) -> Callable[..., np.ndarray]:
    """Return dropout with one of its typical mistakes."""

    def dropout(x: np.ndarray, uniform: np.ndarray, p: float, training: bool) -> np.ndarray:
        if not training and not always:
            return x * eval_scale(p)
        keep = uniform < p if swapped else uniform >= p
        if rows:
            keep = keep[:, :1]
        if in_place:
            x *= keep * scale(p)
            return x
        return x * keep * scale(p)

    return dropout


DROPOUT = Item(
    name="08.dropout",
    title="Dropout by hand",
    difficulty=1,
    importance=4,
    minutes=10,
    points=2,
    cases=dropout_cases,
    reference=_dropout(),
    withheld=("torch.nn.functional.dropout",),
    diagnoses=(
        Mistake(
            "not_scaled",
            "the survivors are not scaled up: with p = 0.5 the next layer would get half of what "
            "it gets in evaluation. Divide by 1 - p",
            _dropout(scale=lambda p: 1.0),
        ),
        Mistake(
            "scaled_down",
            "the survivors are multiplied by 1 - p: to keep the mean they must be divided by it",
            _dropout(scale=lambda p: 1 - p),
        ),
        Mistake(
            "scaled_later",
            "this is the first paper's dropout, which scales in evaluation. Inverted dropout "
            "scales while training, so that evaluation needs no code at all",
            _dropout(scale=lambda p: 1.0, eval_scale=lambda p: 1 - p),
        ),
        Mistake(
            "by_p",
            "the survivors are divided by p, the probability of being dropped: divide by that of "
            "being kept",
            _dropout(scale=lambda p: 1 / p if p else 1.0),
        ),
        Mistake(
            "swapped",
            "kept and dropped are exchanged: p is the probability of being dropped",
            _dropout(swapped=True),
        ),
        Mistake(
            "always_on",
            "numbers are dropped in evaluation too: a trained model must not roll dice",
            _dropout(always=True),
        ),
        Mistake(
            "whole_rows",
            "whole rows share one draw: every number has its own",
            _dropout(rows=True),
        ),
        Mistake(
            "in_place",
            "the input itself is changed: whoever passed it in still needs it",
            _dropout(in_place=True),
        ),
    ),
)

# --- decay that Adam does not divide away -----------------------------------------------------

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def adamw_cases(generator: np.random.Generator) -> list[Case]:
    """Early and late steps, weak and strong decay."""
    cases = []
    for shape, t, decay in (((4,), 1, 0.01), ((3, 2), 2, 5.0), ((5,), 50, 10.0), ((2, 3), 7, 0.0)):
        gradient = generator.normal(0, 1, shape)
        inputs = {
            "w": generator.normal(0, 1, shape),
            "gradient": gradient,
            "m": generator.normal(0, 0.1, shape) * (t > 1),
            "v": generator.uniform(0.001, 0.1, shape) * (t > 1),
            "t": t,
            "lr": 0.01,
            "decay": decay,
        }
        cases.append(Case(f"step {t}, decay {decay}", inputs))
    return cases


def _adamw(
    l2: bool = False,
    without_lr: bool = False,
    no_correction: bool = False,
    upward: bool = False,
    forgets: bool = False,
    grows: bool = False,
    counted_from_zero: bool = False,
) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return one step of AdamW with one of its typical mistakes."""

    def adamw_step(
        w: np.ndarray,
        gradient: np.ndarray,
        m: np.ndarray,
        v: np.ndarray,
        t: int,
        lr: float,
        decay: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        g = gradient + decay * w if l2 else gradient
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        power = t + 1 if counted_from_zero else t
        m_hat = m if no_correction else m / (1 - BETA1**power)
        v_hat = v if no_correction else v / (1 - BETA2**power)
        shrink = 0.0 if l2 or forgets else decay if without_lr else lr * decay
        move = lr * m_hat / (np.sqrt(v_hat) + EPSILON)
        return w * (1 + shrink if grows else 1 - shrink) - (-move if upward else move), m, v

    return adamw_step


DECAY = Item(
    name="08.adamw_step",
    title="Decay that Adam does not divide away",
    difficulty=3,
    importance=4,
    minutes=20,
    points=3,
    cases=adamw_cases,
    reference=_adamw(),
    withheld=("torch.optim.AdamW",),
    diagnoses=(
        Mistake(
            "l2",
            "this is L2: decay x w was added to the gradient, and Adam divides it away with the "
            "rest. Take it out of the gradient and shrink w itself",
            _adamw(l2=True),
        ),
        Mistake(
            "without_lr",
            "the weights shrink by the whole decay at every step: the share is lr x decay",
            _adamw(without_lr=True),
        ),
        Mistake(
            "no_correction",
            "m and v start at zero and are too small in the first steps: divide them by 1 - beta^t "
            "(bias correction) before you use them",
            _adamw(no_correction=True),
        ),
        Mistake(
            "counted_from_zero",
            "the bias correction uses t + 1: here the first step is t = 1 already",
            _adamw(counted_from_zero=True),
        ),
        Mistake("upward", "the step goes uphill: subtract it", _adamw(upward=True)),
        Mistake("forgets", "the weights do not decay at all", _adamw(forgets=True)),
        Mistake("grows", "the weights grow where they should shrink", _adamw(grows=True)),
    ),
)

# --- the step that hurts most -----------------------------------------------------------------


def fgm_cases(generator: np.random.Generator) -> list[Case]:
    """Tables of word vectors and texts of their rows; one in which nothing has a gradient."""
    cases = []
    for B, T, rows, epsilon in ((4, 3, 8, 0.5), (6, 5, 12, 2.0), (3, 2, 5, 0.1)):
        inputs = {
            "table": Tensor(generator.normal(0, 1, (rows, 4)).astype(np.float32)),
            "head": Tensor(generator.normal(0, 1, (4, 2)).astype(np.float32)),
            "ids": Tensor(generator.integers(0, rows, (B, T))),
            "labels": Tensor(np.arange(B) % 2),
            "epsilon": epsilon,
        }
        cases.append(Case(f"{B} texts of {T} tokens, epsilon {epsilon}", inputs))
    flat = dict(cases[0].inputs) | {"head": Tensor(np.zeros((4, 2), np.float32))}
    cases.append(Case("a head of zeros: no gradient reaches the table", flat))
    return cases


def _fgm(
    stays: bool = False,
    clears: bool = False,
    not_normed: bool = False,
    downhill: bool = False,
    signs: bool = False,
    per_row: bool = False,
    divides_by_zero: bool = False,
) -> Callable[[Any, Callable[[], Any], float], None]:
    """Return the two passes with one of their typical mistakes."""

    def adversarial_gradient(table: Any, loss_of: Callable[[], Any], epsilon: float) -> None:
        import torch

        loss_of().backward()
        g = table.grad.clone()
        saved = table.detach().clone()
        norm = g.norm(dim=1, keepdim=True) if per_row else g.norm()
        if not divides_by_zero:
            norm = norm.clamp(min=1e-30)
        noise = g.sign() if signs else g if not_normed else g / norm
        with torch.no_grad():
            table += -epsilon * noise if downhill else epsilon * noise
        if clears:
            table.grad = None
        loss_of().backward()
        if not stays:
            with torch.no_grad():
                table.copy_(saved)

    return adversarial_gradient


def fgm_clean_only(table: Any, loss_of: Callable[[], Any], epsilon: float) -> None:
    loss_of().backward()


FGM = Item(
    name="08.adversarial_gradient",
    title="The step that hurts most, and the way back",
    difficulty=3,
    importance=3,
    minutes=20,
    points=3,
    cases=fgm_cases,
    reference=_fgm(),
    call=calls.two_passes,
    may_change=("table",),  # there and back again: by rounding
    rtol=1e-4,
    atol=1e-5,
    withheld=(
        "course_utils.regularization.adversarial_noise",
        "course_utils.regularization.perturbed",
    ),
    diagnoses=(
        Mistake(
            "not_restored",
            "the noise stays in the table: after every step a little more of it, for good. Put the "
            "saved table back",
            _fgm(stays=True),
        ),
        Mistake(
            "cleared",
            "only the second gradient is left: do not clear the first, the two add up",
            _fgm(clears=True),
        ),
        Mistake(
            "not_normed",
            "the noise has the gradient's length times epsilon: divide by the gradient's norm, so "
            "that its length is epsilon",
            _fgm(not_normed=True),
        ),
        Mistake(
            "downhill",
            "the noise makes the task easier: add it, do not subtract it",
            _fgm(downhill=True),
        ),
        Mistake(
            "signs",
            "this moves every entry by epsilon (the fast gradient sign method): here the noise as "
            "a whole has length epsilon",
            _fgm(signs=True),
        ),
        Mistake(
            "per_row",
            "every row is moved by epsilon: the norm is taken over the whole table",
            _fgm(per_row=True),
        ),
        Mistake(
            "zero_norm",
            "right, except where the gradient is zero: zero divided by zero is nan, and it stays",
            _fgm(divides_by_zero=True),
        ),
        Mistake(
            "clean_only",
            "only the first gradient is there: the second pass, on the changed table, is missing",
            fgm_clean_only,
        ),
    ),
)

# --- bug hunt: a loop that flatters itself ----------------------------------------------------


def keep_cases(generator: np.random.Generator) -> list[Case]:
    """Few noisy rows to learn from, many columns: the best epoch is not the last."""
    cases = []
    for B, V, epochs in ((10, 12, 30), (14, 20, 45), (8, 10, 25)):
        truth = generator.normal(0, 1, V)
        parts: dict[str, Any] = {}
        for name, rows in (("", B), ("fresh_", 40)):
            x = generator.normal(0, 1, (rows, V))
            y = (x @ truth + generator.normal(0, 2.5, rows) > 0).astype(np.float32)
            parts |= {f"{name}features": Tensor(x.astype(np.float32)), f"{name}labels": Tensor(y)}
        inputs = parts | {"lr": 0.5, "epochs": epochs}
        cases.append(Case(f"{B} rows of {V} features, {epochs} epochs", inputs))
    return cases


def _keep(
    rolls: bool = False, alias: bool = False, flatters: bool = False, sleeps: bool = False
) -> Any:
    """Return the loop with some of its three bugs, or one that a repair may add."""

    def train_and_keep(
        features: Any, labels: Any, fresh_features: Any, fresh_labels: Any, lr: float, epochs: int
    ) -> tuple[Any, list[float]]:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

        layers = torch.nn.Dropout(0.3), torch.nn.Linear(features.shape[1], 1)
        model: Any = torch.nn.Sequential(*layers)
        torch.nn.init.zeros_(model[1].weight)
        torch.nn.init.zeros_(model[1].bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        fresh: list[float] = []
        lowest, best = float("inf"), model[1].weight
        model.train()
        for _ in range(epochs):
            if not sleeps:
                model.train()
            optimizer.zero_grad()
            loss = loss_of(model(features)[:, 0], labels)
            loss.backward()
            optimizer.step()
            if not rolls:
                model.eval()
            with torch.no_grad():
                fresh.append(loss_of(model(fresh_features)[:, 0], fresh_labels).item())
            watched = loss.item() if flatters else fresh[-1]
            if watched < lowest:
                lowest, best = watched, model[1].weight if alias else model[1].weight.clone()
        return best.detach()[0], fresh

    return train_and_keep


LEFT = {
    "rolls": "dropout is still on while the fresh rows are judged: evaluation needs model.eval()",
    "alias": "the kept weights are not a copy: they go on changing with every step, and at the end "
    "they are the last ones, whichever loss chose them",
    "flatters": "the epoch is chosen by the training loss, which overfitting makes fall for ever: "
    "choose by the loss on the fresh rows",
    "sleeps": "model.eval() is never undone: from the second epoch on, training goes on without "
    "dropout",
}


def keep_left(*names: str) -> Mistake:
    """Return the diagnosis of a set of bugs that is left."""
    message = ". Then: ".join(LEFT[name] for name in names)
    message = message if len(names) == 1 else f"more than one bug is left. First: {message}"
    return Mistake("_and_".join(names), message, _keep(**dict.fromkeys(names, True)))


KEEP = Item(
    name="08.train_and_keep",
    title="Bug hunt: the best weights, or so it says",
    difficulty=3,
    importance=5,
    minutes=20,
    points=4,
    cases=keep_cases,
    reference=_keep(),
    call=calls.train_and_keep,
    rtol=1e-4,
    atol=1e-5,
    # While the weights are no copy, which loss chose them makes no difference to see.
    diagnoses=(
        keep_left("rolls", "alias"),
        keep_left("rolls", "flatters"),
        Mistake(
            "sleeps_and_last",
            f"more than one bug is left. First: {LEFT['sleeps']}. Then: the weights returned are "
            "the last ones; either they are not a copy, or the training loss has chosen them",
            _keep(sleeps=True, alias=True),
        ),
        keep_left("rolls"),
        keep_left("alias"),
        keep_left("flatters"),
        keep_left("sleeps"),
    ),
)

ITEMS = (STOP, DROPOUT, DECAY, FGM, KEEP)
