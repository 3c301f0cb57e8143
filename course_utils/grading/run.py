"""One submission's time in the sandbox: what is sent in, and what is taken down of what comes out.

The cells go in first, then the visible cases, then the hidden ones, each with a *token* that
answers must carry: who answers without it has not read the question. A message may be anything
(`messages`); what comes of one is at worst a note on this submission's row. Garbled and repeated
messages happen to honest code that forks, and accuse nobody; forged ones do not happen by
accident.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Sequence

from course_utils.grading import runner
from course_utils.grading.calls import Failure, Outcome
from course_utils.grading.checks import Case
from course_utils.grading.items import VISIBLE_SEED, Item, make_cases
from course_utils.grading.messages import Message, NotAMessage, read
from course_utils.grading.results import ItemResult, Settings
from course_utils.grading.sandbox import Ending, Session
from course_utils.grading.wire import MOST_VALUES, Budget, WireError, dumps

MOST_ERRORS, MOST_ERROR_TEXT = 200, 100_000  # exceptions of cells that are kept, and characters
MOST_RESULTS = 4_000_000  # bytes of one item's outcomes
TOO_LARGE = "TooLarge"


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
        self.counts: Counter[str] = Counter()  # messages that could not be used, and why
        self.forged: list[str] = []
        self.ending = ""
        self.stage = "start"  # then cells, visible, hidden, done
        self.tokens = {"start": ""} | {
            stage: secrets.token_hex(8) for stage in ("cells", "visible", "hidden")
        }
        self.sizes: Counter[str] = Counter()  # bytes of each item's outcomes
        self.values: Counter[str] = Counter()  # and values in them

    def play(self, cells: list[str], stop: threading.Event | None = None) -> Ending:
        """Run the cells, then the items; take down what is sent."""
        limits = self.settings.limits
        job = {"cells": cells, "cell_seconds": limits.seconds / 4, "token": self.tokens["cells"]}
        settings = self.settings
        with Session(limits, settings.protected, stop, settings.hidden) as session:
            session.send(dumps(job))
            for line in session.lines():
                self.take(line, session)
        self._note_how_it_ended(session.ending)
        return session.ending

    def _note_how_it_ended(self, ended: Ending) -> None:
        limits = self.settings.limits
        if len(self.cell_errors) < self.counts["errors"]:
            self.reasons.append(f"{self.counts['errors']} exceptions in cells")
        if self.stage in ("start", "done") and not ended.reason:
            return
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

    def take(self, line: bytes, session: Session) -> None:
        """Take down one message."""
        budget = Budget()
        try:
            message = read(line, budget)
        except WireError:
            self.counts["unreadable"] += 1
            return
        except NotAMessage as error:
            self._forged(str(error))
            return
        token = self.tokens.get(self.stage)
        if message.token != token:  # late, from a process that was left behind, or made up
            if message.token and message.token in self.tokens.values():
                self.counts["late"] += 1
            else:
                self._forged(f"{message.kind}: not an answer to what was sent")
        elif message.kind == "outcome":
            self._take_outcome(message, len(line), MOST_VALUES - budget.values)
        elif not self._go_on(message, session):
            self.counts["repeated"] += 1

    def _go_on(self, message: Message, session: Session) -> bool:
        """Take down what is no outcome; False if this is not the time for it."""
        match message.kind, self.stage:
            case "ready", "start":
                self.stage = "cells"
            case "cell", "cells":
                self._take_cell_error(message)
            case "cells_done", "cells":
                self._send_cases("visible", session)
            case "lost", "visible" | "hidden":
                if (self.stage, message.item) not in self.cases:
                    self._forged("lost: no such item")
                self.lost.setdefault(message.item, message.reason)
            case "items_done", "visible":
                self._send_cases("hidden", session)
            case "items_done", "hidden":
                self.stage = "done"
            case _:
                return False
        return True

    def _forged(self, words: str) -> None:
        if len(self.forged) < 5:
            self.forged.append(words)

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
        session.send(dumps({"items": jobs, "token": self.tokens[stage]}))

    def _take_cell_error(self, message: Message) -> None:
        failure = message.failure
        assert failure is not None  # a cell's message always has one
        self.failures.add(failure.type_name)
        self.counts["errors"] += 1
        text = "\n".join([f"{failure.type_name}: {failure.message}", *failure.lines])
        self.counts["error text"] += len(text)
        if self.counts["errors"] <= MOST_ERRORS and self.counts["error text"] < MOST_ERROR_TEXT:
            self.cell_errors.append(f"In code cell {message.number}: {text}")

    def _take_outcome(self, message: Message, size: int, values: int) -> None:
        item, place = message.item, (self.stage, message.item, message.case)
        if message.case >= len(self.cases.get((self.stage, item), ())):
            self._forged("outcome: no such case")
        elif place in self.outcomes:
            self.counts["repeated"] += 1
        else:
            self.sizes[item] += size
            self.values[item] += values
            if self.sizes[item] > MOST_RESULTS or self.values[item] > MOST_VALUES:
                words = "its results are too large to be looked at"
                self.outcomes[place] = Outcome(None, {}, Failure(TOO_LARGE, words))
                return
            value = None if message.failure else message.value
            self.outcomes[place] = Outcome(value, message.inputs, message.failure)

    def notes(self) -> list[str]:
        """Say what was odd about its messages, accusing nobody of what may be an accident."""
        found = [f"its process sent forged messages ({self.forged[0]})"] if self.forged else []
        words = {
            "unreadable": "could not be read",
            "late": "came too late",
            "repeated": "came again or out of turn",
        }
        odd = [f"{self.counts[k]} messages {v}" for k, v in words.items() if self.counts[k]]
        return [*found, *odd, *(["does it fork?"] if odd and not found else [])]

    def status(self, results: Sequence[ItemResult]) -> str:
        """Return the status of the row as it would be without tampering."""
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
