"""The command ``course finetune``: words of a terminal to a request, and errors to one line."""

import argparse
import sys
from pathlib import Path

WORDS = """\
The table is CSV, TSV, JSON lines, Parquet or Excel, in any encoding; it is only read. Results go
into a folder: report.html, audit.html, model_card.md, and model/, which `course serve` takes.
A run that was interrupted goes on with the same command and --resume.

examples:
  course finetune reviews.csv --text review --label sentiment --look
  course finetune reviews.csv --text review --label sentiment --group customer --minutes 20
  course finetune tickets.jsonl --text body --label topics --kind tags

exit codes:
  0    the report is written
  1    it cannot be done; one line says why
  2    the command cannot be understood
  130  interrupted; --resume goes on
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``course finetune``."""
    add = command.add_argument
    add("table", type=Path, help="your file of texts and labels")
    add("--text", metavar="COLUMN", help="holds the texts")
    add("--label", metavar="COLUMN", help="holds what is to be predicted")
    add("--group", metavar="COLUMN", help="rows with one value stay on one side of the split")
    add("--out", type=Path, metavar="DIR", help="for the results; default: the table's name-model")
    add("--look", action="store_true", help="only audit the data: some seconds, nothing trained")
    add("--resume", action="store_true", help="continue a run that was interrupted")
    budget = command.add_mutually_exclusive_group()
    budget.add_argument("--quick", action="store_true", help="two minutes, a first impression")
    budget.add_argument(
        "--minutes", type=float, metavar="N", help="plan the training so that it fits"
    )
    what = command.add_argument_group("what the labels are, where it is not found out rightly")
    add = what.add_argument
    add("--kind", choices=("classes", "tags", "rating"), help="one, any number, or a number")
    add("--separator", metavar="S", help="stands between the tags in one cell")
    add("--merge", action="append", default=[], metavar="A=B", help="read label A as B (repeat)")
    add("--drop-rare", action="store_true", help="leave out labels too rare to learn")
    add("--miss", type=float, metavar="PRICE", help="of missing the rarer of two classes, if a "
        "false alarm costs 1")  # fmt: skip
    how = command.add_argument_group("how the file is to be read")
    how.add_argument("--encoding", metavar="NAME", help="such as utf-8, cp1252, gb18030")
    how.add_argument("--delimiter", metavar="C", help="between cells")
    how.add_argument("--sheet", metavar="NAME", help="of a workbook")
    train = command.add_argument_group("how it is trained")
    train.add_argument("--max-tokens", type=int, metavar="N", help="texts are cut here")
    train.add_argument("--epochs", type=int, metavar="N", help="at most")
    train.add_argument("--no-curve", dest="curve", action="store_false",
                       help="leave out the model's learning curve: half of the time")  # fmt: skip
    train.add_argument("--lr", type=float, metavar="X", help="peak learning rate")
    train.add_argument("--seed", type=int, default=0, metavar="N")


def run(options: argparse.Namespace) -> int:
    """Run ``course finetune``.

    Raises
    ------
    RuntimeError
        With a sentence for the person at the terminal, if it cannot be done.
    """
    from course_utils.own_data.finetune import finetune
    from course_utils.own_data.folders import RunOfOwnData
    from course_utils.own_data.requests import Request, in_a_line, look, refusal, write_audit
    from course_utils.own_data.tables import read_table

    try:
        if options.text is None or options.label is None:
            reading = {n: getattr(options, n) for n in ("encoding", "delimiter", "sheet")}
            columns = read_table(options.table, [], **reading).columns
            raise ValueError(
                "say which column holds the texts (--text) and which the labels (--label); "
                f"{options.table.name} has {', '.join(map(repr, columns[:30]))}"
            )
        names = Request.__dataclass_fields__
        given = {k: v for k, v in vars(options).items() if k in names}
        request = Request(**given | {"path": options.table, "merge": merges(options.merge)})
        if not options.look:
            finetune(request, resume=options.resume, say=_say)
            return 0
        RunOfOwnData.refuse_if_taken(request.folder, resume=False)  # the audit is written there
        looked = look(request)
        for note in looked.table.notes:
            _say(f"note: {note}")
        for finding in looked.audit.findings:
            _say(in_a_line(finding))
        _say(f"see {write_audit(request, looked)}")
        if looked.audit.stops:
            raise ValueError(refusal(looked.audit, request.folder))
        return 0
    except FloatingPointError as error:  # the loss is no number any more
        raise RuntimeError(f"{error} (--lr), into another folder (--out)") from None
    except ValueError as error:
        raise RuntimeError(error) from None
    except KeyboardInterrupt:
        print("course: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130


def merges(given: list[str]) -> dict[str, str]:
    """Return ``A=B`` pairs as a dictionary.

    Raises
    ------
    ValueError
        If one is no such pair.

    Examples
    --------
    >>> merges(["postive=positive"])
    {'postive': 'positive'}
    """
    for pair in given:
        if pair.count("=") != 1 or not all(side.strip() for side in pair.split("=")):
            raise ValueError(f"--merge takes A=B, two labels with one = between them, got {pair!r}")
    return dict(tuple(pair.split("=")) for pair in given)  # type: ignore[misc]


def _say(line: str) -> None:
    print(line, flush=True)
