"""What a person asks for, and a first look at their table, before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from course_utils.inputs import above_0, whole_number
from course_utils.models import load_tokenizer
from course_utils.own_data.audit import Audit, audit
from course_utils.own_data.cleaning import Finding, Row, drop_rare, usable_rows
from course_utils.own_data.folders import write_file
from course_utils.own_data.goals import Goal, read_labels
from course_utils.own_data.label_looks import shared_between_groups
from course_utils.own_data.reports import audit_page
from course_utils.own_data.tables import Table, read_table
from course_utils.serving.rules import KINDS, Kind


class CannotWork(ValueError):
    """No model can be made of these data; the message says why, and what would help."""


@dataclass(frozen=True)
class Request:
    """What a person asks for; see ``course finetune --help``.

    Attributes
    ----------
    path : Path
        The table.
    text, label : str
        Names of columns.
    group : str, optional
        Column of what must not be divided between training and test.
    out : Path, optional
        Folder for the results; the table's name with ``-model`` if not given.
    curve : bool
        Whether to train on a quarter and on half of the rows too.
    """

    path: Path
    text: str
    label: str
    group: str | None = None
    out: Path | None = None
    kind: Kind | None = None
    separator: str | None = None
    merge: Mapping[str, str] = field(default_factory=dict)
    drop_rare: bool = False
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    max_tokens: int | None = None
    epochs: int | None = None
    lr: float | None = None
    minutes: float | None = None
    quick: bool = False
    curve: bool = True
    miss: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (None, *KINDS):
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        whole_number(self.seed, "seed", least=0)
        for name in ("epochs", "max_tokens"):
            if getattr(self, name) is not None:
                whole_number(getattr(self, name), name, least=1)
        for name in ("minutes", "miss", "lr"):
            if getattr(self, name) is not None:
                above_0(getattr(self, name), name)
        if self.quick and self.minutes is not None:
            raise ValueError("--quick has a budget of its own: leave --minutes out")

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or Path(f"{self.path.stem}-model")


@dataclass(frozen=True)
class Looked:
    """A table that was read and looked at."""

    table: Table
    goal: Goal
    rows: list[Row]
    audit: Audit


def look(request: Request) -> Looked:
    """Read a table and audit it; nothing is trained and nothing written.

    Raises
    ------
    ValueError
        If it cannot be read, or a column does not hold what it should.
    """
    wanted = [request.text, request.label, *([request.group] if request.group else [])]
    table = read_table(
        request.path,
        wanted,
        encoding=request.encoding,
        delimiter=request.delimiter,
        sheet=request.sheet,
    )
    texts, groups = table.cells[request.text], table.cells[request.group] if request.group else None
    goal, labels = read_labels(
        table.cells[request.label], request.kind, separator=request.separator, merge=request.merge
    )
    rows, findings = usable_rows(texts, labels, goal, groups)
    if request.drop_rare:
        before = set(goal.names)
        rows, goal = drop_rare(rows, goal)
        if dropped := sorted(before - set(goal.names)):
            said = f"left out, as was asked for: {', '.join(dropped)}"
            findings.append(Finding("note", "rare labels", said))
    if groups:
        findings += shared_between_groups(texts, groups)
    found = audit(
        rows,
        goal,
        load_tokenizer(),
        total=len(table),
        max_tokens=request.max_tokens,
        already=findings,
    )
    return Looked(table, goal, rows, found)


def write_audit(request: Request, looked: Looked) -> Path:
    """Write ``audit.html`` and ``audit.json`` into the folder of the results; return the page."""
    request.folder.mkdir(parents=True, exist_ok=True)
    page = audit_page(looked.table, looked.goal, looked.audit, looked.table.cells[request.text])
    write_file(request.folder / "audit.html", page)
    write_file(request.folder / "audit.json", looked.audit)
    return request.folder / "audit.html"


def refusal(found: Audit, folder: Path) -> str:
    """Return what stops a run, in the words for a terminal."""
    stops = " Also, ".join(f"{f.sentence}. {f.remedy}".strip() for f in found.stops)
    return f"no model can be made of these data: {stops} (See {folder / 'audit.html'})"


def in_a_line(finding: Finding) -> str:
    """Return a finding for a terminal: how grave it is, what it is, and what to do.

    Examples
    --------
    >>> in_a_line(Finding("warning", "near-equal labels", "they look alike", (3,), "Merge them."))
    'warning: near-equal labels: they look alike. Merge them.'
    """
    said = f"{finding.weight}: {finding.title}: {finding.sentence}"
    return f"{said.rstrip('.')}. {finding.remedy}" if finding.remedy else said
