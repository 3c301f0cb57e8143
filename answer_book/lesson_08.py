"""Items of lesson 08: when to stop, dropout, decay, a step that hurts, a loop that flatters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.edits import edit
from course_utils.grading.calls import lesson_08 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
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


def early_stopping(losses: list[float], patience: int) -> tuple[int, int]:
    """Return how many looks were taken, and which one was the best."""
    best, waited = 0, 0
    for look in range(1, len(losses)):
        if losses[look] < losses[best]:
            best, waited = look, 0
        else:
            waited += 1
        if waited >= patience:
            return look + 1, best
    return len(losses), best


LAST_LOOK = """best = look
        if losses[look] < losses[look - 1]:
            waited = 0"""


STOP = Item(
    name="08.early_stopping",
    title="When to stop, and what to keep",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=stop_cases,
    reference=early_stopping,
    withheld=("course_utils.regularization.EarlyStopping",),
    diagnoses=(
        Mistake(
            "off_by_one",
            "one look too many: with patience 2, the second look in a row without a new best is "
            "the last one",
            edit(early_stopping, ">=", ">"),
        ),
        Mistake(
            "never_resets",
            "looks without a gain are counted over the whole run: a new best starts the count anew",
            edit(early_stopping, "best, waited = look, 0", "best = look"),
        ),
        Mistake(
            "last_look",
            "a look is compared with the one before it: compare with the best so far. A loss that "
            "has jumped up and creeps down again has not improved",
            edit(early_stopping, "best, waited = look, 0", LAST_LOOK),
        ),
        Mistake(
            "ties",
            "an equal loss is taken for a gain: it must be lower",
            edit(early_stopping, "losses[look] <", "losses[look] <="),
        ),
        Mistake(
            "keeps_last",
            "the last look is kept: its weights are those that made you stop. Keep the best one",
            edit(
                early_stopping,
                *("look + 1, best", "look + 1, look"),
                *("len(losses), best", "len(losses), len(losses) - 1"),
            ),
        ),
        Mistake(
            "counted_from_one",
            "`best` is an index: the first look is 0",
            edit(early_stopping, "1, best", "1, best + 1", "(losses), best", "(losses), best + 1"),
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


def dropout(x: np.ndarray, uniform: np.ndarray, p: float, training: bool) -> np.ndarray:
    """Drop numbers while training, and scale up those that are kept."""
    if not training:
        return x
    return x * (uniform >= p) / (1 - p)


DROPOUT = Item(
    name="08.dropout",
    title="Dropout by hand",
    **Rating(difficulty=1, importance=4, minutes=10, points=2),
    cases=dropout_cases,
    reference=dropout,
    withheld=("torch.nn.functional.dropout",),
    diagnoses=(
        Mistake(
            "not_scaled",
            "the survivors are not scaled up: with p = 0.5 the next layer would get half of what "
            "it gets in evaluation. Divide by 1 - p",
            edit(dropout, " / (1 - p)", ""),
        ),
        Mistake(
            "scaled_down",
            "the survivors are multiplied by 1 - p: to keep the mean they must be divided by it",
            edit(dropout, "/ (1 - p)", "* (1 - p)"),
        ),
        Mistake(
            "scaled_later",
            "this is the first paper's dropout, which scales in evaluation. Inverted dropout "
            "scales while training, so that evaluation needs no code at all",
            edit(dropout, " / (1 - p)", "", "return x\n", "return x * (1 - p)\n"),
        ),
        Mistake(
            "by_p",
            "the survivors are divided by p, the probability of being dropped: divide by that of "
            "being kept",
            edit(dropout, "(1 - p)", "(p or 1.0)"),
        ),
        Mistake(
            "swapped",
            "kept and dropped are exchanged: p is the probability of being dropped",
            edit(dropout, ">=", "<"),
        ),
        Mistake(
            "always_on",
            "numbers are dropped in evaluation too: a trained model must not roll dice",
            edit(dropout, "not training", "False"),
        ),
        Mistake(
            "whole_rows",
            "whole rows share one draw: every number has its own",
            edit(dropout, "(uniform >= p)", "(uniform >= p)[:, :1]"),
        ),
        Mistake(
            "in_place",
            "the input itself is changed: whoever passed it in still needs it",
            edit(dropout, "return x *", "x *=", "/ (1 - p)", "/ (1 - p)\n    return x"),
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


def adamw_step(
    w: np.ndarray,
    gradient: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    lr: float,
    decay: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights and both running means after a step."""
    m = BETA1 * m + (1 - BETA1) * gradient
    v = BETA2 * v + (1 - BETA2) * gradient**2
    m_hat = m / (1 - BETA1**t)
    v_hat = v / (1 - BETA2**t)
    shrunk = w * (1 - lr * decay)
    return shrunk - lr * m_hat / (np.sqrt(v_hat) + EPSILON), m, v


NO_DECAY = (" * (1 - lr * decay)", "")


DECAY = Item(
    name="08.adamw_step",
    title="Decay that Adam does not divide away",
    **Rating(difficulty=3, importance=4, minutes=20, points=3),
    cases=adamw_cases,
    reference=adamw_step,
    withheld=("torch.optim.AdamW",),
    diagnoses=(
        Mistake(
            "l2",
            "this is L2: decay x w was added to the gradient, and Adam divides it away with the "
            "rest. Take it out of the gradient and shrink w itself",
            edit(adamw_step, *NO_DECAY, "    m =", "    gradient = gradient + decay * w\n    m ="),
        ),
        Mistake(
            "without_lr",
            "the weights shrink by the whole decay at every step: the share is lr x decay",
            edit(adamw_step, "lr * decay", "decay"),
        ),
        Mistake(
            "no_correction",
            "m and v start at zero and are too small in the first steps: divide them by 1 - beta^t "
            "(bias correction) before you use them",
            edit(adamw_step, " / (1 - BETA1**t)", "", " / (1 - BETA2**t)", ""),
        ),
        Mistake(
            "counted_from_zero",
            "the bias correction uses t + 1: here the first step is t = 1 already",
            edit(adamw_step, "BETA1**t", "BETA1 ** (t + 1)", "BETA2**t", "BETA2 ** (t + 1)"),
        ),
        Mistake(
            "upward", "the step goes uphill: subtract it", edit(adamw_step, "shrunk -", "shrunk +")
        ),
        Mistake("forgets", "the weights do not decay at all", edit(adamw_step, *NO_DECAY)),
        Mistake(
            "grows",
            "the weights grow where they should shrink",
            edit(adamw_step, "1 - lr", "1 + lr"),
        ),
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


def adversarial_gradient(table: Any, loss_of: Callable[[], Any], epsilon: float) -> None:
    """Leave the gradients of both passes in the table's, and the table as it was."""
    import torch

    loss_of().backward()
    saved = table.detach().clone()
    with torch.no_grad():
        table += epsilon * table.grad / table.grad.norm().clamp(min=1e-30)
    loss_of().backward()
    with torch.no_grad():
        table.copy_(saved)


FGM = Item(
    name="08.adversarial_gradient",
    title="The step that hurts most, and the way back",
    **Rating(difficulty=3, importance=3, minutes=20, points=3),
    cases=fgm_cases,
    reference=adversarial_gradient,
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
            edit(adversarial_gradient, "table.copy_(saved)", "pass"),
        ),
        Mistake(
            "cleared",
            "only the second gradient is left: do not clear the first, the two add up",
            edit(adversarial_gradient, "min=1e-30)", "min=1e-30)\n    table.grad = None"),
        ),
        Mistake(
            "not_normed",
            "the noise has the gradient's length times epsilon: divide by the gradient's norm, so "
            "that its length is epsilon",
            edit(adversarial_gradient, " / table.grad.norm().clamp(min=1e-30)", ""),
        ),
        Mistake(
            "downhill",
            "the noise makes the task easier: add it, do not subtract it",
            edit(adversarial_gradient, "+=", "-="),
        ),
        Mistake(
            "signs",
            "this moves every entry by epsilon (the fast gradient sign method): here the noise as "
            "a whole has length epsilon",
            edit(adversarial_gradient, " / table.grad.norm().clamp(min=1e-30)", ".sign()"),
        ),
        Mistake(
            "per_row",
            "every row is moved by epsilon: the norm is taken over the whole table",
            edit(adversarial_gradient, "norm()", "norm(dim=1, keepdim=True)"),
        ),
        Mistake(
            "zero_norm",
            "right, except where the gradient is zero: zero divided by zero is nan, and it stays",
            edit(adversarial_gradient, ".clamp(min=1e-30)", ""),
        ),
        Mistake(
            "clean_only",
            "only the first gradient is there: the second pass, on the changed table, is missing",
            lambda table, loss_of, epsilon: loss_of().backward(),
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


def train_and_keep(
    features: Any, labels: Any, fresh_features: Any, fresh_labels: Any, lr: float, epochs: int
) -> tuple[Any, list[float]]:
    """Return the weights of the best epoch, and the loss on fresh rows after each epoch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

    layers = torch.nn.Dropout(0.3), torch.nn.Linear(features.shape[1], 1)
    model: Any = torch.nn.Sequential(*layers)
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    fresh: list[float] = []
    lowest, best = float("inf"), model[1].weight
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        loss = loss_of(model(features)[:, 0], labels)
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            fresh.append(loss_of(model(fresh_features)[:, 0], fresh_labels).item())
        watched = fresh[-1]
        if watched < lowest:
            lowest, best = watched, model[1].weight.clone()
    return best.detach()[0], fresh


LEFT = {
    "rolls": (
        "dropout is still on while the fresh rows are judged: evaluation needs model.eval()",
        *("        model.eval()\n", ""),
    ),
    "alias": (
        "the kept weights are not a copy: they go on changing with every step, and at the end "
        "they are the last ones, whichever loss chose them",
        *(".clone()", ""),
    ),
    "flatters": (
        "the epoch is chosen by the training loss, which overfitting makes fall for ever: "
        "choose by the loss on the fresh rows",
        *("watched = fresh[-1]", "watched = loss.item()"),
    ),
    "sleeps": (
        "model.eval() is never undone: from the second epoch on, training goes on without dropout",
        *("        model.train()\n", ""),
    ),
}


def keep_left(*names: str) -> Mistake:
    """Return the diagnosis of a set of bugs that is left."""
    message = ". Then: ".join(LEFT[name][0] for name in names)
    message = message if len(names) == 1 else f"more than one bug is left. First: {message}"
    texts = [text for name in names for text in LEFT[name][1:]]
    return Mistake("_and_".join(names), message, edit(train_and_keep, *texts))


KEEP = Item(
    name="08.train_and_keep",
    title="Bug hunt: the best weights, or so it says",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=keep_cases,
    reference=train_and_keep,
    call=calls.train_and_keep,
    rtol=1e-4,
    atol=1e-5,
    # While the weights are no copy, which loss chose them makes no difference to see.
    diagnoses=(
        keep_left("rolls", "alias"),
        keep_left("rolls", "flatters"),
        Mistake(
            "sleeps_and_last",
            f"more than one bug is left. First: {LEFT['sleeps'][0]}. Then: the weights returned "
            "are the last ones; either they are not a copy, or the training loss has chosen them",
            edit(train_and_keep, *LEFT["sleeps"][1:], *LEFT["alias"][1:]),
        ),
        keep_left("rolls"),
        keep_left("alias"),
        keep_left("flatters"),
        keep_left("sleeps"),
    ),
)

ITEMS = (STOP, DROPOUT, DECAY, FGM, KEEP)
