"""The result pipe says anything at all: at worst it is a note on that submission's own row."""

from __future__ import annotations

import json
import random
import threading

import numpy as np
import pytest

from course_utils.grading import row, run
from course_utils.grading.messages import FORMS, NotAMessage, read
from course_utils.grading.reports import write_reports
from course_utils.grading.results import STATUSES, Settings
from course_utils.grading.sandbox import Ending
from course_utils.grading.submissions import Submission
from course_utils.grading.wire import Budget, Opaque, Tensor, WireError, dumps, loads
from tests.grading.hostile import STUBS, notebook

SUBMISSION = Submission("ada", "01", "01_gradients.ipynb", notebook(STUBS))
FAILURE = ["ValueError", "no", ["cell 1, line 1: x"]]
STRANGE = [
    *(float("inf"), float("-inf"), float("nan"), 1e308, -1, 2**63, 10**4000, True, None, 0, 1.5),
    *("", "x" * 100_000, "\ud800", "\x00\x1b[2J", "Infinity", [], {}, [[[[]]]], [1] * 1000),
    {"kind": "ready"},
    np.zeros(3),
    np.array(1.5),
    np.zeros((0, 4), np.float16),
    Tensor(np.ones((2, 2)), "bfloat16"),
    Opaque("Thing"),
]


class Pipe:
    """A sandbox that sends what it is told to; lines may depend on what it was sent."""

    def __init__(self, lines):
        self.to_send, self.ending, self.sent = lines, Ending(code=0), []

    def __call__(self, *given):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *given):
        pass

    def send(self, line):
        self.sent.append(loads(line))

    def lines(self):
        for line in self.to_send:
            yield line(self) if callable(line) else line


def message(name: str, /, **content):
    """A line with the token of what was sent last, as the runner would answer."""

    def line(pipe: Pipe) -> bytes:
        token = "" if name == "ready" else pipe.sent[-1]["token"]
        return dumps({"kind": name, "token": token} | content)

    return line


def outcome(item, case=0, value=1.0, inputs=None, failure=None):
    return message(
        "outcome", item=item, case=case, value=value, inputs=inputs or {}, failure=failure
    )


WHOLE = [message("ready"), message("cells_done"), message("items_done"), message("items_done")]


def graded(monkeypatch, lines):
    monkeypatch.setattr(run, "Session", Pipe(lines))
    return row.grade_one(SUBMISSION, Settings(7))


def test_an_honest_run_is_ok(monkeypatch):
    result = graded(monkeypatch, WHOLE)
    assert (result.status, result.detail) == ("ok", "")


def test_infinity_is_a_row(monkeypatch):
    """Seen: OverflowError, exit 1, no reports for anyone."""
    cell = message("cell", number=float("inf"), failure=FAILURE)
    result = graded(monkeypatch, [WHOLE[0], cell, *WHOLE[1:]])
    assert result.status == "tampered"
    assert "number: inf" in result.detail


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("field", ["kind", "token", "number", "item", "case", "reason", "failure"])
def test_every_field_of_every_wrong_type(monkeypatch, tmp_path, kind, field):
    fields = {
        "ready": {},
        "cell": {"number": 1, "failure": FAILURE},
        "outcome": {
            **{"item": "01.bce_gradient", "case": 0, "value": 1.0, "inputs": {}, "failure": None}
        },
        "lost": {"item": "01.bce_gradient", "reason": "died"},
    }.get(kind, {})
    for strange in STRANGE:
        line = message(kind, **(fields | {field: strange}))
        results = [graded(monkeypatch, [*WHOLE[:at], line, *WHOLE[at:]]) for at in range(1, 5)]
        assert all(r.status in STATUSES and r.status != "internal error" for r in results)
        assert all(r.score == 0 for r in results)
    write_reports(results, tmp_path)
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def anything(draw: random.Random, depth: int = 0):
    """Plain data of any shape, or a number that only JSON knows."""
    if depth < 3 and draw.random() < 0.4:
        size = draw.randrange(4)
        if draw.random() < 0.5:
            return [anything(draw, depth + 1) for _ in range(size)]
        names = ["kind", "token", "item", "case", "value", "failure", "x"]
        return {draw.choice(names): anything(draw, depth + 1) for _ in range(size)}
    return draw.choice([*STRANGE, *FORMS, "01.bce_gradient", "died", FAILURE])


def test_fuzzed_messages_reports_and_all(monkeypatch, tmp_path):
    """Two thousand messages, whole, nearly whole, cut and mixed up: a row, and reports of it."""
    draw = random.Random(14)
    lines = []
    for _ in range(2000):
        kind = draw.choice([*FORMS])
        fields = {name: anything(draw) for name in (*FORMS[kind], "token", "kind")}
        fields |= {"kind": kind} if draw.random() < 0.9 else {}
        if draw.random() < 0.2 and fields:
            fields.pop(draw.choice([*fields]))
        line = dumps(fields)
        if draw.random() < 0.2:
            at = draw.randrange(len(line))
            line = draw.choice([line[:at], line[:at] + bytes([draw.randrange(256)]) + line[at:]])
        lines.append(line)
    lines += [dumps(anything(draw)) for _ in range(500)]
    draw.shuffle(lines)
    result = graded(monkeypatch, [WHOLE[0], *lines[:1000], WHOLE[1], *lines[1000:], *WHOLE[2:]])
    assert (result.status, result.score) == ("tampered", 0)
    assert len(result.detail) < 1000
    write_reports([result], tmp_path)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.stat().st_size


def test_what_is_read_is_read_again(monkeypatch):
    for strange in STRANGE:
        value = read(dumps({"kind": "outcome", "token": ""} | vars_of(strange))).value
        assert type(value) is type(strange)


def vars_of(value):
    return {"item": "x", "case": 0, "value": value, "inputs": {}, "failure": None}


@pytest.mark.parametrize(
    "content", [{}, [], "ready", {"kind": []}, {"kind": "result", "score": 16}, {"kind": "ready"}]
)
def test_what_is_no_message(content):
    with pytest.raises(NotAMessage):
        read(dumps(content))


def test_words_are_cleaned_and_values_are_not():
    failure = ["E\x00" * 90, "\ud800 \x1b[31mred\x1b[0m \u202egnp.exe", ["\x9b2J"] * 20]
    line = dumps({"kind": "outcome", "token": ""} | vars_of("\x00\u200b") | {"failure": failure})
    got = read(line)
    assert got.value == "\x00\u200b"  # compared, never shown
    assert got.failure.message == "\ufffd red \ufffdgnp.exe"
    assert got.failure.lines == ("",) * 8
    assert len(got.failure.type_name) == 80


# -- who is accused, and who is not ------------------------------------------------------------


def blind(kind: str, **content):
    """A line from one who has not read what was sent."""
    return dumps({"kind": kind, "token": "0" * 16} | content)


def test_all_results_sent_by_itself_is_no_ok(monkeypatch):
    """Seen: status ok for a submission that sent every message itself and ended its process."""
    names = [item.name for item in row.load_items("01")]
    values = {"value": 1.0, "inputs": {}, "failure": None}
    fakes = [
        blind("outcome", item=name, case=case, **values) for name in names for case in range(9)
    ]
    lines = [
        WHOLE[0],
        blind("cells_done"),
        *fakes,
        blind("items_done"),
        *fakes,
        blind("items_done"),
    ]
    result = graded(monkeypatch, lines)
    assert result.score == 0
    assert result.status == "tampered"
    assert "forged" in result.detail
    result = graded(monkeypatch, [*lines, *WHOLE[1:]])
    assert result.status == "tampered"


def test_an_answer_from_an_earlier_stage_is_late_and_not_forged(monkeypatch):
    def late(pipe):
        return dumps({"kind": "items_done", "token": pipe.sent[-2]["token"]})

    result = graded(monkeypatch, [*WHOLE[:3], late, WHOLE[3]])
    assert result.status == "ok"
    assert "too late" in result.detail


def test_messages_of_a_process_that_forked_accuse_nobody(monkeypatch):
    torn = b'{"dict": {"kind": "outc{"dict": {"kind"'
    twice = [WHOLE[0], WHOLE[1], outcome("01.log_sum_exp"), outcome("01.log_sum_exp"), torn]
    result = graded(monkeypatch, [*twice, *WHOLE[2:]])
    assert result.status == "ok"
    assert "1 messages could not be read; 1 messages came again" in result.detail


def test_hundreds_of_failing_cells_are_messy_and_honest(monkeypatch):
    """Seen: the 201st failing cell made a student a forger."""
    cells = [message("cell", number=n, failure=FAILURE) for n in range(1, 1001)]
    result = graded(monkeypatch, [WHOLE[0], *cells, *WHOLE[1:]])
    assert result.status == "failed"
    assert "1000 exceptions in cells" in result.detail
    assert len(result.cell_errors) == 200


def test_a_flood_of_words_is_cut(monkeypatch):
    long = ["E", "x" * 5000, ["y" * 5000] * 50]
    cells = [message("cell", number=n, failure=long) for n in range(1, 200)]
    result = graded(monkeypatch, [WHOLE[0], *cells, *WHOLE[1:]])
    assert sum(map(len, result.cell_errors)) < 110_000


def test_results_of_an_item_together_have_a_limit(monkeypatch):
    """One item's gigantic answers cost that item, and no other; the grader does not hold them."""
    big = np.zeros(400_000)
    lines = [outcome("01.log_sum_exp", case, big) for case in range(3)]
    result = graded(monkeypatch, [*WHOLE[:2], *lines, *WHOLE[2:]])
    assert result.status == "ok"
    kept = run.Run(row.load_items("01"), Settings(7))
    pipe = Pipe([*WHOLE[:2], *lines])
    pipe.send(dumps({"token": kept.tokens["cells"]}))
    for line in pipe.lines():
        kept.take(line, pipe)
    held = [o for o in kept.outcomes.values() if o.value is not None]
    assert len(held) == 0
    assert {o.failure.type_name for o in kept.outcomes.values()} == {run.TOO_LARGE}


def test_a_long_list_is_too_large_where_it_is_made():
    """What can be sent can be read: else an honest answer would look like a forged one."""
    for value in ([0] * 200_001, [[]] * 700_000, json.loads("[" * 30 + "]" * 30)):
        with pytest.raises(WireError):
            dumps(value)
    assert len(loads(dumps([0.5] * 199_000))) == 199_000


def test_a_small_line_cannot_become_a_large_memory():
    with pytest.raises(WireError, match="brackets"):
        loads(b"[" + b"[]," * 5_000_000 + b"[]]")
    with pytest.raises(WireError, match="values"):
        loads(dumps([0] * 50), Budget(40))


# -- the grader's own faults -------------------------------------------------------------------


def test_an_error_of_the_grader_is_a_row(monkeypatch, tmp_path):
    def broken(*given):
        raise KeyError("a secret of the hidden cases")

    monkeypatch.setattr(row, "judge", broken)
    monkeypatch.setattr(run, "Session", Pipe(WHOLE))
    result = row.grade_or_say_why(SUBMISSION, Settings(7), threading.Event())
    assert result.status == "internal error"
    assert "KeyError" in result.detail
    assert "secret" not in result.detail
    assert "a secret of the hidden cases" in result.traceback
    write_reports([result], tmp_path)
    assert (
        "in broken" in json.loads((tmp_path / "report.json").read_text())["results"][0]["traceback"]
    )
    for page in [
        *tmp_path.rglob("*.html"),
        *tmp_path.rglob("results.json"),
        *tmp_path.rglob("*.csv"),
    ]:
        assert "secret" not in page.read_text()
