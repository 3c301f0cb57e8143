"""From submissions to results: run each in a sandbox of its own, judge what comes out, remember.

`grade_one` is a pure function of a submission, a seed and limits: it runs in any thread, or on any
machine of a cluster, and the same inputs give the same result. `grade_all` calls it for a class,
in parallel, and keeps each result in a file as soon as it is there, so that interrupted
grading goes on where it stopped.

This process never imports or executes student code. It sends cells and cases into the sandbox
and compares the plain data that comes back with references that never leave.
"""

import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from course_utils.grading import checks, runner
from course_utils.grading.calls import Failure, Outcome
from course_utils.grading.checks import Case, Key, Verdict
from course_utils.grading.items import VISIBLE_SEED, Item, load_items, make_cases, make_key
from course_utils.grading.sandbox import Ending, Limits, SandboxError, Session, probe
from course_utils.grading.sources import library_calls
from course_utils.grading.submissions import Cell, Corrupt, Submission, read_cells
from course_utils.grading.wire import Plain, WireError, dumps, loads
from course_utils.system import write_atomically

# References are run here, and random generators and imports are the whole process's.
JUDGING = threading.Lock()
LOOKS = {"command.py", "reports.py"}  # they do not change a result
STARTS = 3  # a sandbox that does not start is no student's fault
STATUSES = (
    "ok",  # every cell ran, every item was called
    "failed",  # a cell or an item raised an exception
    "timeout",
    "crashed",
    "out of memory",
    "corrupt",  # not a notebook
    "missing",
    "tampered",  # given cells were changed, or the process sent what it should not
)


@dataclass(frozen=True)
class ItemResult:
    """One item of one submission; nothing in it tells a hidden case or a right answer."""

    name: str
    points: int
    most: int
    diagnosis: str = ""
    message: str = ""
    only_hidden: bool = False
    error: str = ""


@dataclass(frozen=True)
class Result:
    """One row of the grades."""

    student: str
    lesson: str
    status: str
    detail: str
    items: tuple[ItemResult, ...]
    file: str = ""
    platform_id: str = ""
    cell_errors: tuple[str, ...] = ()

    @property
    def score(self) -> int:
        """Points gained."""
        return sum(item.points for item in self.items)

    @property
    def most(self) -> int:
        """Points there were to gain."""
        return sum(item.most for item in self.items)


@dataclass(frozen=True)
class Settings:
    """How a class is graded."""

    seed: int
    limits: Limits = field(default_factory=Limits)
    protected: bool = True
    hidden: tuple[str, ...] = ()  # folders that no submission may see; no result depends on them


# --- one submission ---------------------------------------------------------------------------


def grade_one(
    submission: Submission, settings: Settings, stop: threading.Event | None = None
) -> Result:
    """Grade one submission; whatever it contains, a result comes back.

    Raises
    ------
    SandboxError
        If the sandbox does not start, before any student code has run.
    """
    items = load_items(submission.lesson)
    blank = Result(
        submission.student,
        submission.lesson,
        "missing",
        submission.problem,
        tuple(ItemResult(item.name, 0, item.points) for item in items),
        submission.file,
        submission.platform_id,
    )
    if not submission.file:
        return blank
    try:
        if submission.problem:
            raise Corrupt(submission.problem)
        cells, notes = read_cells(submission.raw)
    except Corrupt as error:
        detail = "; ".join([str(error), *submission.notes])
        return replace(blank, status="corrupt", detail=detail)
    changed = given_cells_changed(cells, items)
    for _ in range(STARTS):
        run = Run(items, settings)
        ended = run.play([cell.source for cell in cells], stop)
        if run.stage != "start":
            break
    else:
        words = ended.words.strip() or f"it ended with code {ended.code}"
        raise SandboxError(f"the sandbox does not start: {words[-600:]}")
    with JUDGING:
        judged = [(_judge(item, run), item) for item in items]
    results = tuple(_unless_borrowed(*pair, [cell.source for cell in cells]) for pair in judged)
    status = run.status(results)
    if status in ("ok", "failed") and (changed or run.forged):
        status = "tampered"
    forged = ["its process sent messages it should not"] if run.forged else []
    detail = "; ".join([*run.reasons, *forged, *changed, *submission.notes, *notes])
    return replace(
        blank, status=status, detail=detail, items=results, cell_errors=tuple(run.cell_errors)
    )


def given_cells_changed(cells: Sequence[Cell], items: Sequence[Item]) -> list[str]:
    """Say which of the locked check cells were changed, deleted or duplicated."""
    marked = [cell for cell in cells if cell.grade_id]
    if not marked:
        return []  # another editor dropped the marks; nothing depends on them
    found = []
    for item in items:
        own = [cell for cell in marked if cell.grade_id == f"check_{item.target}"]
        expected = f'check("{item.name}", {item.target})'
        if len(own) != 1:
            found.append(f"the check of {item.name} is there {len(own)} times")
        elif own[0].source.strip() != expected:
            found.append(f"the check of {item.name} was changed")
    return found


class Run:
    """One submission's time in the sandbox, and what is left of it."""

    def __init__(self, items: Sequence[Item], settings: Settings) -> None:
        self.items, self.settings = items, settings
        seeds = {"visible": VISIBLE_SEED, "hidden": settings.seed}
        self.cases: dict[tuple[str, str], list[Case]] = {
            (stage, item.name): make_cases(item, seed)
            for stage, seed in seeds.items()
            for item in items
        }
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        self.lost: dict[str, str] = {}
        self.cell_errors: list[str] = []
        self.failures: set[str] = set()  # types of exceptions in cells
        self.reasons: list[str] = []
        self.ending = ""
        self.forged = False
        self.stage = "start"  # then cells, visible, hidden, done

    def play(self, cells: list[str], stop: threading.Event | None = None) -> Ending:
        """Run the cells, then the items; take down what is sent."""
        limits = self.settings.limits
        settings = self.settings
        with Session(limits, settings.protected, stop, settings.hidden) as session:
            session.send(dumps({"cells": cells, "cell_seconds": limits.seconds / 4}))
            for line in session.lines():
                self._take(line, session)
        ended = session.ending
        if self.stage in ("start", "done") and not ended.reason:
            return ended
        kinds = {"time": "timeout", "memory": "out of memory", "output": "crashed"}
        self.ending = kinds.get(ended.reason, "crashed")
        while_ = "its cells" if self.stage == "cells" else "its answers"
        words = {
            "timeout": f"stopped after {limits.seconds:g} s, while {while_} ran",
            "out of memory": f"stopped at {limits.memory_gb:g} GB, while {while_} ran",
            "crashed": f"its process ended while {while_} ran",
        }
        flood = "stopped: it sent far too much"
        self.reasons.append(flood if ended.reason == "output" else words[self.ending])
        return ended

    def _take(self, line: bytes, session: Session) -> None:
        """Take down one message, believing nothing about its form."""
        try:
            message = loads(line)
            kind = message["kind"]
            if kind == "ready" and self.stage == "start":
                self.stage = "cells"
            elif kind == "cell" and self.stage == "cells" and len(self.cell_errors) < 200:
                self._take_cell_error(int(message["number"]), _failure(message["failure"]))
            elif kind == "cells_done" and self.stage == "cells":
                self._send_cases("visible", session)
            elif kind == "outcome":
                self._take_outcome(message)
            elif kind == "lost" and (self.stage, message["item"]) in self.cases:
                self.lost.setdefault(message["item"], str(message["reason"]))
            elif kind == "items_done" and self.stage == "visible":
                self._send_cases("hidden", session)
            elif kind == "items_done" and self.stage == "hidden":
                self.stage = "done"
            else:
                self.forged = True
        except (WireError, ValueError, KeyError, TypeError, IndexError):
            self.forged = True

    def _send_cases(self, stage: str, session: Session) -> None:
        """Send the items with their cases of one stage."""
        self.stage = stage
        endless = {
            item
            for (_, item, _), outcome in self.outcomes.items()
            if outcome.failure and outcome.failure.type_name == runner.TIME_LIMIT
        }
        jobs = [
            {
                "item": item.name,
                "target": item.target,
                "module": item.call.__module__,
                "call": item.call.__name__,
                "seconds": item.seconds,
                "apart": item.apart,
                "withheld": list(item.withheld),
                "cases": [case.inputs for case in self.cases[stage, item.name]],
            }
            for item in self.items
            if item.name not in self.lost.keys() | endless  # once is enough
        ]
        session.send(dumps({"items": jobs}))

    def _take_cell_error(self, number: int, failure: Failure) -> None:
        self.failures.add(failure.type_name)
        text = "\n".join([f"{failure.type_name}: {failure.message}", *failure.lines])
        self.cell_errors.append(f"In code cell {number}: {text}")

    def _take_outcome(self, message: dict[str, Plain]) -> None:
        item, index = message["item"], message["case"]
        if type(index) is not int or not 0 <= index < len(self.cases[self.stage, item]):
            raise ValueError("no such case")
        if (self.stage, item, index) in self.outcomes or not isinstance(message["inputs"], dict):
            raise ValueError("a case twice, or without inputs")
        failure = _failure(message["failure"]) if message["failure"] else None
        value = None if failure else message["value"]
        self.outcomes[self.stage, item, index] = Outcome(value, message["inputs"], failure)

    def status(self, results: Sequence[ItemResult]) -> str:
        """Return the status of the row, but for tampering."""
        types = self.failures | {f.type_name for o in self.outcomes.values() if (f := o.failure)}
        if self.ending == "crashed" and "MemoryError" in types:
            return "out of memory"
        if self.ending:
            return self.ending
        if "MemoryError" in types:
            self.reasons.append("an exception: out of memory")
            return "out of memory"
        if runner.TIME_LIMIT in types or "time" in self.lost.values():
            self.reasons.append("a cell or an answer took too long")
            return "timeout"
        if self.lost:
            self.reasons.append("its process ended while its answers ran")
            return "crashed"
        wrong = [r for r in results if r.diagnosis in ("error", "not_defined")]
        if self.cell_errors or wrong:
            cells = [e.split(":")[0].removeprefix("In ") for e in self.cell_errors]
            self.reasons += [f"an exception in {c}" for c in dict.fromkeys(cells)][:5]
            self.reasons += [f"{r.name}: {r.message}" for r in wrong]
            return "failed"
        return "ok"


def _failure(content: Plain) -> Failure:
    name, message, lines = content
    if not all(isinstance(text, str) for text in (name, message, *lines)):
        raise TypeError("words expected")
    return Failure(name[:80], message[:2000], tuple(line[:600] for line in lines[:8]))


# --- one item ---------------------------------------------------------------------------------


def _judge(item: Item, run: Run) -> ItemResult:
    """Judge an item on its hidden cases; explain with words, and with visible cases' errors."""
    result = ItemResult(item.name, 0, item.points)
    verdicts: dict[str, Verdict] = {}
    visible_outcomes: list[Outcome] = []
    for stage, seed in (("visible", VISIBLE_SEED), ("hidden", run.settings.seed)):
        cases = run.cases[stage, item.name]
        came = [run.outcomes.get((stage, item.name, index)) for index in range(len(cases))]
        answered = [outcome for outcome in came if outcome is not None]
        types = {o.failure.type_name for o in answered if o.failure}
        if runner.NOT_DEFINED in types:
            message = f"there is no `{item.target}` after the last cell"
            return replace(result, diagnosis="not_defined", message=message)
        if len(answered) < len(cases) or runner.TIME_LIMIT in types:
            return _lost(result, item, run, runner.TIME_LIMIT in types)
        visible_outcomes = answered if stage == "visible" else visible_outcomes
        verdicts[stage] = _verdict(make_key(item, seed), answered)
    hidden, visible = verdicts["hidden"], verdicts["visible"]
    if hidden.passed:
        return replace(result, points=item.points)
    failures = [f for outcome in visible_outcomes if (f := outcome.failure)]
    error = ""
    if failures and hidden.diagnosis == "error":
        error = "\n".join([f"{failures[0].type_name}: {failures[0].message}", *failures[0].lines])
    return replace(
        result,
        diagnosis=hidden.diagnosis,
        message=hidden.message,
        only_hidden=visible.passed,
        error=error,
    )


def _unless_borrowed(result: ItemResult, item: Item, cells: list[str]) -> ItemResult:
    """Give nothing for an answer whose code calls the library's own solution."""
    if not result.points or not library_calls(cells, item.target, item.withheld):
        return result
    words = checks.library_message(item)
    return replace(result, points=0, diagnosis="library_call", message=words)


def _verdict(key: Key, outcomes: Sequence[Outcome]) -> Verdict:
    try:
        return checks.verify(key, outcomes)
    except Exception as error:  # made of data nobody thought of: wrong, and said so
        return Verdict(key.exercise.name, False, "unjudged", f"not judged: {type(error).__name__}")


def _lost(result: ItemResult, item: Item, run: Run, stopped: bool) -> ItemResult:
    """Say why there are no results of an item."""
    if stopped or run.lost.get(item.name) == "time":
        message = f"no result after {item.seconds:g} s: does it end?"
        return replace(result, diagnosis="timeout", message=message)
    if item.name in run.lost:
        return replace(result, diagnosis="crashed", message="the process ended during the call")
    message = f"not reached: {run.reasons[0]}" if run.reasons else "no result came back"
    return replace(result, diagnosis="not_reached", message=message)


# --- a class ----------------------------------------------------------------------------------


def library_hash() -> str:
    """Return a hash of all that a result depends on besides its submission: library and answers."""
    from course_utils.grading.items import answer_book

    digest = hashlib.sha256()
    for package in (Path(__file__).resolve().parent.parent, Path(*answer_book().__path__)):
        for path in sorted(package.rglob("*.py")):
            if path.name not in LOOKS:
                digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprints(submissions: Sequence[Submission], settings: Settings) -> list[str]:
    """Return what each result depends on, as a hash: equal means it need not be made again."""
    library, keys = library_hash(), []
    for submission in submissions:
        words = asdict(submission)
        raw = hashlib.sha256(words.pop("raw")).hexdigest()
        content = [words, raw, asdict(replace(settings, hidden=())), library]
        keys.append(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
    return keys


def result_path(folder: Path, submission: Submission) -> Path:
    """Return where a result is kept; any name makes a good file name."""
    name = f"{submission.lesson}_{submission.student}"
    readable = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)[:60]
    return folder / f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:10]}.json"


def load_result(path: Path, key: str) -> Result | None:
    """Return a kept result, unless what it depends on has changed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("key") != key:
            return None
        items = tuple(ItemResult(**item) for item in content.pop("items"))
        errors = tuple(content.pop("cell_errors"))
        return Result(**content, items=items, cell_errors=errors)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_result(path: Path, key: str, result: Result) -> None:
    """Keep a result: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"key": key} | asdict(result), indent=1)
    write_atomically(path, lambda file: file.write(text.encode()))


def grade_all(
    submissions: Sequence[Submission],
    settings: Settings,
    folder: Path,
    *,
    jobs: int = 1,
    dask: str = "",
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Grade a class, in the order of `submissions`.

    Parameters
    ----------
    submissions : sequence of Submission
    settings : Settings
    folder : Path
        Where results are kept, and found by the next run.
    jobs : int
        How many at a time on this machine.
    dask : str
        Address of a Dask scheduler, to grade on its workers instead.
    on_result : callable
        Told of each result, in the order they come.
    """
    done: dict[int, Result] = {}
    keys = fingerprints(submissions, settings)
    paths = [result_path(folder, submission) for submission in submissions]
    for index, (path, key) in enumerate(zip(paths, keys, strict=True)):
        if known := load_result(path, key):
            done[index] = known
            on_result(known)
    todo = [index for index in range(len(submissions)) if index not in done]
    grade = _on_cluster(dask) if dask else _on_this_machine(jobs)
    work = grade([(index, submissions[index]) for index in todo], settings)
    with contextlib.closing(work):  # whatever is raised here, nothing goes on behind our back
        for index, result in work:
            save_result(paths[index], keys[index], result)
            done[index] = result
            on_result(result)
    return [done[index] for index in range(len(submissions))]


def kept_results(
    submissions: Sequence[Submission], settings: Settings, folder: Path
) -> list[Result]:
    """Return what an earlier run graded of these, without grading anything."""
    keys = fingerprints(submissions, settings)
    pairs = zip(submissions, keys, strict=True)
    kept = (load_result(result_path(folder, one), key) for one, key in pairs)
    return [result for result in kept if result is not None]


Graded = Generator[tuple[int, Result], None, None]
Grader = Callable[[list[tuple[int, Submission]], Settings], Graded]


def _on_this_machine(jobs: int) -> Grader:
    """Return a grader with one thread per sandbox; the work is done in the sandboxes."""

    def grade(todo: list[tuple[int, Submission]], settings: Settings) -> Graded:
        stop, pool = threading.Event(), ThreadPoolExecutor(jobs)
        try:
            futures = {pool.submit(grade_one, each, settings, stop): index for index, each in todo}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stop.set()  # interrupted: end what still runs
            pool.shutdown(cancel_futures=True)

    return grade


def _on_cluster(address: str) -> Grader:
    """Return a grader for the workers of a Dask cluster; each needs the course and bubblewrap."""

    def grade(todo: list[tuple[int, Submission]], settings: Settings) -> Graded:
        try:
            from distributed import Client
            from distributed import as_completed as as_they_come
        except ImportError:
            raise ImportError("--dask needs the extra: pip install '.[cluster]'") from None

        library = library_hash()
        with Client(address) as client:
            futures = {
                client.submit(_on_worker, each, settings, library, pure=False, retries=2): index
                for index, each in todo
            }
            for future in as_they_come(futures):
                yield futures[future], future.result()

    return grade


def _on_worker(submission: Submission, settings: Settings, library: str) -> Result:
    """Grade on a worker, which must have the same course and walls that hold."""
    if library_hash() != library:
        raise SandboxError("a worker of the cluster has another version of the course")
    if settings.protected:
        _probe_once(settings.hidden)
    return grade_one(submission, settings)


@functools.cache
def _probe_once(hidden: tuple[str, ...]) -> None:
    probe(hidden=hidden)
