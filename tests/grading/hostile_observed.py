"""Submissions that forge what was once observed beside them, or that call the library's solution.

Each answers one item wrongly, and patches whatever would have told. See `test_observed.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Forged:
    name: str
    item: str
    diagnosis: str  # what it is told instead of points
    cell: str


RUNNER = """
import sys
frame, runner = sys._getframe(), None
while frame:
    if "call_item" in frame.f_globals: runner = frame.f_globals
    frame = frame.f_back
"""

BANK = (
    Forged(
        "an input is changed, and reported as it was sent",
        "01.softmax_gradient",
        "changed_input",
        RUNNER
        + """
import numpy as np
import course_utils.grading.calls as calls
def forging(attempt):
    def forged(call, target, inputs):
        return calls.Outcome(attempt(call, target, inputs).value, inputs)
    return forged
for name in ("attempt", "attempt_on"):
    if name in runner: runner[name] = forging(runner[name])
def softmax_gradient(logits, labels):
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    p[range(len(p)), labels] -= 1
    return p / len(p)
""",
    ),
    Forged(
        "what was drawn is remembered",
        "00.draw",
        "not_repeatable",
        """
import torch
seen = {}
def draw(labels, per_class, seed):
    if (len(labels), seed) not in seen:
        generator = torch.Generator()
        generator.seed()
        rows = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
        drawn = [r[torch.randperm(len(r), generator=generator)[:per_class]] for r in rows]
        seen[len(labels), seed] = torch.cat(drawn)
    return seen[len(labels), seed]
""",
    ),
    Forged(
        "global generators are moved, and called unmoved",
        "00.draw",
        "disturbs",
        """
import torch
import course_utils.grading.calls.lesson_00 as calls
calls._global_state = lambda: 0
def draw(labels, per_class, seed):
    torch.manual_seed(seed)
    rows = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    return torch.cat([r[torch.randperm(len(r))[:per_class]] for r in rows])
""",
    ),
    Forged(
        "a split is drawn once and reported twice",
        "02.hold_out",
        "not_repeated",
        """
import numpy as np
import course_utils.grading.calls.lesson_02 as calls
def once(draw):
    rows = [draw(seed) for seed in range(5)]
    return {"rows": rows, "again": rows}
calls.repeated = once
def hold_out(documents, labels, share, seed):
    generator = np.random.default_rng()
    documents, labels = np.array(documents), np.array(labels)
    room, chosen = share * np.bincount(labels), []
    for name in generator.permutation(np.unique(documents)):
        rows = np.flatnonzero(documents == name)
        counts = np.bincount(labels[rows], minlength=len(room))
        if (counts <= room).all():
            room = room - counts
            chosen += rows.tolist()
    return chosen
""",
    ),
    Forged(
        "the labels' type is made up",
        "02.collate",
        "label_type",
        """
import torch
import course_utils.grading.calls.lesson_02 as calls
def padded(target, inputs):
    whole = all(isinstance(label, int) for label in inputs["labels"])
    kind = "torch.int64" if whole else "torch.float32"
    return {**target(*inputs.values()), "dtype of labels": kind}
calls.padded = padded
def collate(rows, labels, pad_id, multiple):
    T = -(-max(map(len, rows)) // multiple) * multiple
    return {
        "input_ids": torch.tensor([row + [pad_id] * (T - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (T - len(r)) for r in rows]),
        "labels": torch.tensor(labels, dtype=torch.float32),
    }
""",
    ),
    Forged(
        "dropout is switched off everywhere",
        "00.logits_of",
        "training",
        """
import torch
torch.nn.Dropout.forward = lambda self, x: x
torch.nn.functional.dropout = lambda x, *given, **named: x
@torch.no_grad()
def logits_of(model, rows, batch_size):
    return torch.cat([model(torch.tensor([row]), torch.ones(1, len(row))).logits for row in rows])
""",
    ),
)

MCNEMAR = "06.mcnemar_p"
LIBRARY = tuple(
    Forged(name, MCNEMAR, "library_call", cell)
    for name, cell in (
        (
            "imports it",
            """
from course_utils.intervals import mcnemar as mine
def mcnemar_p(first, second): return mine(first, second).p_value
""",
        ),
        (
            "imports it where it is used, from a module not imported before",
            """
def mcnemar_p(first, second):
    import course_utils.intervals as m
    return m.mcnemar(first, second).p_value
""",
        ),
        (
            "puts its name together",
            """
import importlib
def mcnemar_p(first, second):
    module = importlib.import_module("course_utils" + ".intervals")
    return getattr(module, "mc" + "nemar")(first, second).p_value
""",
        ),
        (
            "keeps it under another name, imported in another cell by a string",
            """
space = {}
exec("from course_utils.intervals import " + "mc" + "nemar", space)
kept = list(space.values())[-1]
def mcnemar_p(first, second): return kept(first, second).p_value
""",
        ),
    )
)
