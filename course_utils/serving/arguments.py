"""The arguments of ``course serve``, as the command line takes and explains them.

Nothing heavy is imported here: ``course --help`` reads this too, and where the service's packages
are missing. Whether the numbers make sense, `Limits` says.
"""

import argparse

WORDS = """\
It listens on this machine only, unless --host says otherwise. POST /predict takes
{"texts": ["...", ...]}; the page at / tries it in a browser; docs/serving.md has the rest.

exit codes:
  0    stopped by SIGTERM or Ctrl-C, after what was under way had been answered
  1    the model or a number is refused, or the address is taken: one line says why
  2    the command cannot be understood
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``course serve``; `Limits` says what they mean."""
    add = command.add_argument
    add("model", metavar="MODEL", help="the folder of a trained model, or its name in the cache")
    add("--host", default="127.0.0.1", help="default: this machine only")
    with_parent = "stop when the process that started it has ended (not on Windows)"
    add("--with-parent", action="store_true", help=with_parent)
    add("--precision", choices=["float32", "bfloat16"], default="float32", help="of the model")
    add("--port", type=port, default=8000, help="0 takes any that is free; default: 8000")
    limits: list[tuple[str, type, float, str]] = [
        ("batch", int, 32, "texts computed together; 1 computes each request alone"),
        ("wait", float, 0.005, "seconds the first of a batch waits for others"),
        ("workers", int, 1, "threads that compute, each its own batch; they share the cores"),
        ("queue", int, 256, "texts that may wait; beyond, a request is answered 503"),
        ("texts", int, 32, "texts of a request"),
        ("characters", int, 2_000, "characters of a text"),
        ("body", int, 65_536, "bytes of a request"),
        ("answer", float, 10.0, "seconds until a client is told to come back later"),
        ("receive", float, 5.0, "seconds for a request to arrive"),
        ("stop", float, 10.0, "seconds for what is under way when told to stop"),
        ("connections", int, 512, "open connections"),
    ]
    for name, kind, usual, words in limits:
        add(f"--{name}", type=kind, default=usual, metavar="N", help=f"{words}; default: {usual}")


def port(text: str) -> int:
    """Return the number of a port; 0 takes any that is free."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65,535, got {text}")
    return int(text)
