"""Submissions that try to stop, change or hide another's row; see test_hostile_rows.py.

As in `hostile`: cells after a notebook with every item unsolved. None may gain a point, none may
cost anybody else one, and each must have a row of its own that accuses of no accident.
"""

from __future__ import annotations

from dataclasses import replace

from tests.grading.hostile import Hostile

# How a submission finds the runner's own way to send, and the token of the work in hand.
FOUND = """
frame = sys._getframe()
while "send" not in frame.f_locals: frame = frame.f_back
send = frame.f_locals["send"]
def say(kind, **content): send(kind, **content)
FAILURE = ["ValueError", "no", []]
def write_raw(line):
    for fd in range(3, 32):
        try: os.write(fd, line + b"\\n")
        except OSError: pass
"""

ATTEMPTS = (
    Hostile(
        "a cell whose number is infinite",
        "say('cell', number=float('inf'), failure=FAILURE)",
        ("tampered",),
    ),
    Hostile(
        "fields of every wrong type",
        """
strange = [None, True, -1, 10**300, float("nan"), "", [], {}, [[[]]], {"kind": "ready"},
           np.zeros(3), "\\ud800"]
for value in strange:
    for kind in ("ready", "cell", "outcome", "lost", "items_done", "result", "x"):
        for name in ("token", "number", "item", "case", "value", "inputs", "failure", "reason"):
            fields = {"number": 1, "failure": FAILURE} if kind == "cell" else {}
            say(kind, **(fields | {name: value}))
""",
        ("tampered",),
    ),
    Hostile(
        "sends all results itself and ends",
        """
import json
def blind(kind, **content):
    write_raw(json.dumps({"dict": {"kind": kind, "token": "0" * 16} | content}).encode())
for stage in ("cells_done", "items_done", "items_done"):
    for name in TARGETS:
        for case in range(9):
            blind("outcome", item="01." + name, case=case, value=1.0, inputs={"dict": {}},
                  failure=None)
    blind(stage)
os._exit(0)
""",
        ("tampered",),
    ),
    Hostile(
        "the same with the right token",
        """
say("cells_done")
for stage in range(2):
    for name in TARGETS:
        for case in range(9):
            say("outcome", item="01." + name, case=case, value=1.0, inputs={}, failure=None)
    say("items_done")
os._exit(0)
""",
        ("tampered", "crashed", "ok"),
    ),
    Hostile(
        "text that no file can hold",
        """
class Ugly(Exception): pass
Ugly.__name__ = "Ug\\udcffly\\x00"
raise Ugly("lone \\ud800, nul \\x00, \\x1b[2J\\x1b]0;title\\x07, \\x9b31m, user\\u202egnp.exe")
""",
        ("failed",),
        never=("\ud800", "\x00", "\x1b", "\x9b", "\u202e"),
    ),
    Hostile(
        "text that no file can hold, from an answer",
        "def bce_gradient(z, y): raise ValueError('\\udc80 \\x1b[31m =cmd|x')",
        ("failed",),
        never=("\udc80", "\x1b"),
    ),
    Hostile("a formula", "raise ValueError('x;=HYPERLINK(1)\\n\\t＝1+1')", ("failed",)),
    Hostile(
        "a flood of exceptions",
        "for n in range(1500): say('cell', number=n, failure=['E', 'x' * 600, ['y' * 600] * 8])",
        ("failed",),
    ),
    Hostile(
        "a flood of large results",
        "def bce_gradient(z, y): return [np.zeros(1_000_000)]\nlog_sum_exp = bce_gradient",
        ("failed", "ok"),
    ),
    Hostile(
        "a line that is small and becomes large",
        "write_raw(b'[' + b'[],' * 5_000_000 + b'[]]')",
        ("ok", "failed"),
    ),
    Hostile(
        "lines that cannot be read", "for n in range(999): write_raw(b'{' * n)", ("ok", "failed")
    ),
)

ROWS = tuple(replace(one, cell=FOUND + one.cell) for one in ATTEMPTS)

# Honest, and unlucky: nobody of these is accused.
UNLUCKY = {
    "three hundred failing cells": ["1 / 0"] * 300,
    "a fork that goes on": ["import os\npid = os.fork()", "x = 1"],
    "closes what it does not know": ["import os\nos.closerange(20, 256)"],
}
