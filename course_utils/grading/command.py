"""``course grade``: grade a class and write the reports. Its arguments: `course_utils.__main__`."""

import os
import secrets
import sys
from argparse import Namespace
from pathlib import Path

from course_utils.system import usable_cores

SEED_FILE = "seed.txt"
KEPT = "results"
NEEDS_A_LOOK = 3


def run(options: Namespace) -> int:
    """Grade, write the reports, and return the exit code."""
    from course_utils.grading import grade, reports, sandbox, submissions
    from course_utils.grading.items import lessons, load_items

    chosen = lessons() if options.all else [options.lesson]
    for lesson in chosen:
        load_items(lesson)
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
    seed = _seed(options.out / SEED_FILE) if options.seed is None else options.seed
    settings = grade.Settings(seed, limits, protected=not options.no_sandbox, hidden=hidden)
    jobs = min(options.jobs or usable_cores(), 16)
    results = _grade(collected, settings, options.out / KEPT, jobs, options.dask)
    others = [one for one in everyone if options.student and one.student not in options.student]
    results += grade.kept_results(others, settings, options.out / KEPT)
    results.sort(key=lambda result: (result.student, result.lesson))
    files = reports.write_reports(results, options.out)
    unusual = [r for r in results if r.status not in ("ok", "failed")]
    print(f"{len(results)} rows in {files[0]}, {len(unusual)} to look at: {files[1]}")
    return NEEDS_A_LOOK if unusual else 0


def _only(collected: list, students: list[str]) -> list:
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


def _grade(collected: list, settings: object, folder: Path, jobs: int, dask: str) -> list:
    """Grade with a progress bar."""
    from tqdm import tqdm

    from course_utils.grading import grade

    with tqdm(total=len(collected), unit="row", desc="grading", file=sys.stderr) as bar:
        return grade.grade_all(
            collected,
            settings,  # type: ignore[arg-type]
            folder,
            jobs=jobs,
            dask=dask,
            on_result=lambda result: bar.update(),
        )


def _seed(path: Path) -> int:
    """Return this grading's secret seed, drawn at its first run and kept for the next."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secrets.randbits(62)}\n")
    return int(path.read_text())
