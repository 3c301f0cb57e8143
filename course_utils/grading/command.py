"""``course grade``: grade a class and write the reports. Its arguments: `course_utils.__main__`."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from course_utils.system import usable_cores

if TYPE_CHECKING:
    from course_utils.grading.copies import Pair
    from course_utils.grading.results import Result, Settings
    from course_utils.grading.submissions import Submission

SEED_FILE = "seed.txt"
KEPT = "results"
NEEDS_A_LOOK = 3
SMALL_CLASS, MOST_PAIRS = 5, 200


def run(options: Namespace) -> int:
    """Grade, write the reports, and return the exit code."""
    from course_utils.grading import grade, kept, reports, results, sandbox, submissions
    from course_utils.grading.items import lessons, load_items

    chosen = lessons() if options.all else [options.lesson]
    for lesson in chosen:
        load_items(lesson)
    _apart(options.submissions, options.out)
    roster = submissions.read_roster(options.roster) if options.roster else []
    everyone = submissions.collect(options.submissions, chosen, roster)
    collected = _only(everyone, options.student or [])
    if options.dry_run:
        for one in collected:
            words = "; ".join([one.problem, *one.notes] if one.problem else one.notes)
            print(f"{one.student}\t{one.lesson}\t{one.file or '-'}\t{words}")
        print(f"{len(collected)} rows; nothing was run or written", file=sys.stderr)
        return 0
    limits = sandbox.Limits(seconds=options.timeout, memory_gb=options.memory)
    hidden = tuple(str(path.resolve()) for path in (options.submissions, options.out))
    if options.no_sandbox:
        print("course: student code runs UNPROTECTED, with your rights", file=sys.stderr)
    elif not options.dask and (why := sandbox.probe(hidden=hidden)):  # there, each worker probes
        print(f"course: no nursery, so each submission imports anew: {why}", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    kept.sweep(options.out)
    seed = kept.seed(options.out / SEED_FILE) if options.seed is None else options.seed
    settings = results.Settings(seed, limits, protected=not options.no_sandbox, hidden=hidden)
    jobs = min(options.jobs or usable_cores(), 16)
    rows = _grade(collected, settings, options.out / KEPT, jobs, options.dask)
    others = [one for one in everyone if options.student and one.student not in options.student]
    before, older = grade.kept_rows(others, settings, options.out / KEPT)
    if older:
        print(
            f"{older} rows of others stay as they were graded: with other options, another version "
            "of the course, or what they had handed in then",
            file=sys.stderr,
        )
    rows = sorted([*rows, *before], key=lambda row: (row.student, row.lesson))
    files = reports.write_reports(rows, options.out, _copies(everyone))
    unusual = [r for r in rows if r.status not in ("ok", "failed")]
    print(f"{len(rows)} rows in {files[0]}, {len(unusual)} to look at: {files[1]}")
    return NEEDS_A_LOOK if unusual else 0


def _apart(submissions: Path, out: Path) -> None:
    """Refuse to write reports among submissions, where the next run would take them for some.

    Raises
    ------
    ValueError
        If one of the two is in the other.
    """
    source, target = submissions.resolve(), out.resolve()
    if target.is_relative_to(source) or (source.is_dir() and source.is_relative_to(target)):
        raise ValueError(
            f"--out must be apart from the submissions: {target} and {source} are one in the other"
        )


def _copies(everyone: "Sequence[Submission]") -> "list[Pair]":
    """Return who gave the same code, also among those who are not graded now."""
    from course_utils.grading import cells, copies
    from course_utils.grading.items import load_items

    sources: dict[str, dict[str, str]] = {}
    for one in everyone:
        if one.raw:
            code = [cell.source for cell in cells.read_cells(one.raw)[0]]
            for item in load_items(one.lesson):
                source = copies.answer_source(code, item.target)
                if "NotImplementedError" not in source:  # the stub that was handed out
                    sources.setdefault(one.student, {})[item.name] = source
    common = len(sources) >= SMALL_CLASS  # there, what half of the class wrote alike tells nothing
    found = [pair for pair in copies.pairs(sources) if pair.weight >= 1 or not common]
    return found[:MOST_PAIRS]


def _only(collected: "list[Submission]", students: list[str]) -> "list[Submission]":
    """Keep the students asked for.

    Raises
    ------
    ValueError
        If one is not there, or nobody is.
    """
    there = {one.student for one in collected}
    if absent := [name for name in students if name not in there]:
        raise ValueError(f"no student {absent[0]!r}: there are {', '.join(sorted(there)[:20])}")
    if not collected:
        raise ValueError("no submissions there")
    return [one for one in collected if not students or one.student in students]


def _grade(
    collected: "list[Submission]", settings: "Settings", folder: Path, jobs: int, dask: str
) -> "list[Result]":
    """Grade with a progress bar."""
    from tqdm import tqdm

    from course_utils.grading import grade

    with tqdm(total=len(collected), unit="row", desc="grading", file=sys.stderr) as bar:
        return grade.grade_all(
            collected,
            settings,
            folder,
            jobs=jobs,
            dask=dask,
            on_result=lambda result: bar.update(),
        )
