"""Is this machine ready for the lessons? One function per question, one line per answer.

A line is *ok*, a *warning* (the lessons run, but read it), or *failed* (a lesson could not
run); the last two say what to do. The doctor must answer on broken machines above all, so
nothing but the standard library is imported before a check needs it, and a check that
breaks becomes a failed line.

Left out on purpose: repairs. Installing or deleting things is for you to decide.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "warning", "failed"]

COURSE = "fine-tuning-from-scratch"
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"  # in a checkout only
LESSON_GB = 3.0  # the budget of every lesson
RUN_GB = 1.0  # the checkpoints of one training run, written twice over
ANOTHER_FRONT_END_WILL_DO = {"jupyterlab"}  # Colab has its own, and so have editors
INSTALL = "pip install -e . in the course's folder (or make env)"


@dataclass(frozen=True)
class Check:
    """One answer.

    Attributes
    ----------
    name : str
    status : {"ok", "warning", "failed"}
    detail : str
        What was found.
    remedy : str
        What to do about it; empty if there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def check_python() -> list[Check]:
    """Check that Python is as new as the course needs."""
    from packaging.specifiers import SpecifierSet

    found = platform.python_version()
    wanted = metadata.metadata(COURSE)["Requires-Python"]
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return [Check("python", "ok", found)]
    detail = f"{found}, the course needs {wanted}"
    return [Check("python", "failed", detail, "make a new environment with a newer Python")]


def check_packages() -> list[Check]:
    """Check that each package is there, new enough, and the version the course was tested with."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        lines = metadata.requires(COURSE) or []
    except metadata.PackageNotFoundError:
        return [Check(COURSE, "failed", "the course itself is not installed", INSTALL)]
    needed = [Requirement(line) for line in lines]
    pins = read_pins(CONSTRAINTS)
    return [
        _check_package(need.name, str(need.specifier), pins.get(canonicalize_name(need.name), ""))
        for need in sorted(needed, key=lambda need: need.name.lower())
        if need.marker is None or need.marker.evaluate({"extra": ""})
    ]


def _check_package(name: str, minimum: str, pin: str) -> Check:
    """Compare one installed version with what is needed and with the tested one."""
    from packaging.specifiers import SpecifierSet

    remedy = f'pip install "{name}{minimum}"'
    serious: Status = "failed"
    if name in ANOTHER_FRONT_END_WILL_DO:
        serious = "warning"
        remedy += ", or nothing: Colab and editors have a front end of their own"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, serious, "not installed", remedy)
    if not SpecifierSet(minimum).contains(found, prereleases=True):
        return Check(name, serious, f"{found}, the course needs {minimum}", remedy)
    if pin and not SpecifierSet(pin).contains(found, prereleases=True):
        detail = f"{found}, tested with {pin.removeprefix('==')}"
        return Check(name, "warning", detail, f'if a lesson misbehaves: pip install "{name}{pin}"')
    return Check(name, "ok", found)


def read_pins(path: Path) -> dict[str, str]:
    """Return the pins of a constraints file, ``{"torch": "==2.13.0"}``; none without a file."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            need = Requirement(line.split("#")[0].split(" --")[0].strip())
        except InvalidRequirement:  # blank, a comment, an option of pip
            continue
        pins[canonicalize_name(need.name)] = str(need.specifier)
    return pins


def check_device() -> list[Check]:
    """Check that PyTorch loads, and say what it will compute on."""
    import torch

    from course_utils.runtime import pick_device

    device = pick_device()
    if device.type == "cuda":
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        return [Check("device", "ok", f"cuda, {torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB")]
    return [Check("device", "ok", f"{device.type} (every lesson is made for a CPU)")]


def check_threads() -> list[Check]:
    """Check that PyTorch uses the cores that this process may use, and no more."""
    import torch

    from course_utils.system import usable_cores

    threads, cores = torch.get_num_threads(), usable_cores()
    detail = f"{threads} for {cores} usable core{'s' if cores > 1 else ''}"
    if threads > cores:
        remedy = f"set the environment variable OMP_NUM_THREADS={cores}: more threads are slower"
        return [Check("threads", "warning", detail, remedy)]
    if cores < 2:
        return [Check("threads", "warning", detail, "expect twice the stated times, or more")]
    return [Check("threads", "ok", detail)]


def check_memory() -> list[Check]:
    """Check that there is memory for a lesson."""
    import psutil

    from course_utils.system import container_memory

    memory = psutil.virtual_memory()
    limit, used = container_memory(memory.total)
    total, free = min(memory.total, limit) / 1e9, min(memory.available, limit - used) / 1e9
    detail = f"{total:.1f} GB, {free:.1f} GB free (a lesson takes up to {LESSON_GB:.0f} GB)"
    if total < LESSON_GB:
        return [Check("memory", "failed", detail, "use a machine with more memory, or Colab")]
    if free < LESSON_GB:
        return [Check("memory", "warning", detail, "close other programs and idle notebooks")]
    return [Check("memory", "ok", detail)]


def check_disk() -> list[Check]:
    """Check that there is room for the data, and for the checkpoints of a training run."""
    from course_utils.sources import CACHE_VARIABLE, cache_folder

    cache = cache_folder()
    temporary = Path(tempfile.gettempdir())
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    return [
        _check_room("disk, cache", existing, 1.0, f"free some, or set {CACHE_VARIABLE}"),
        _check_room("disk, temporary", temporary, RUN_GB, "free some, or set TMPDIR"),
    ]


def _check_room(name: str, folder: Path, needed_gb: float, remedy: str) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    detail = f"{free:.1f} GB free in {folder} (needs {needed_gb:g} GB)"
    return Check(name, "ok", detail) if free >= needed_gb else Check(name, "failed", detail, remedy)


def check_data() -> list[Check]:
    """Check that the data are cached, and the right ones. Fetches nothing."""
    from course_utils.sources import DECODER, SOURCES

    return [_check_source("data", source) for source in SOURCES if source is not DECODER]


def check_decoder() -> list[Check]:
    """Check that the decoder's file is cached, and the right one. Fetches nothing."""
    from course_utils.decoders import DECODER_VARIABLE
    from course_utils.sources import DECODER

    return _other_weights("decoder", DECODER_VARIABLE) or [_check_source("decoder", DECODER)]


def _check_source(name: str, source: Any) -> Check:
    from course_utils.sources import CACHE_VARIABLE, cache_folder, fault

    folder = cache_folder()
    if not (wrong := fault(source, folder)):
        return Check(name, "ok", f"{source.name}: SHA-256 {source.sha256[:12]}... in {folder}")
    detail = f"{source.name}: {wrong}"
    remedy = "course data (with no network: course data --from FILE)"
    if not _can_write(folder):
        remedy = f"set {CACHE_VARIABLE} to a folder you may write to, then: {remedy}"
        detail += ", and that folder cannot be written"
    return Check(name, "warning" if source.optional else "failed", detail, remedy)


def _can_write(folder: Path) -> bool:
    """Try it: permission bits say nothing about read-only disks. Leaves nothing behind."""
    while not folder.exists():  # it would be made there
        folder = folder.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def check_encoder() -> list[Check]:
    """Check that the pretrained weights are there, and the right ones."""
    from course_utils.models import ENCODER_SHA256, ENCODER_VARIABLE, encoder_path
    from course_utils.sources import DataError

    if other := _other_weights("encoder", ENCODER_VARIABLE):
        return other
    try:
        folder = Path(encoder_path())
    except DataError as error:  # "what is wrong: the command that mends it"
        detail, _, remedy = str(error).partition(": ")
        return [Check("encoder", "failed", detail, remedy)]
    return [Check("encoder", "ok", f"SHA-256 {ENCODER_SHA256[:12]}... in {folder}")]


def _other_weights(name: str, variable: str) -> list[Check]:
    """Warn if an environment variable swaps in other weights."""
    chosen = os.environ.get(variable)
    detail = f"{variable}={chosen}: not the {name} the lessons were checked with"
    return [Check(name, "warning", detail, f"unset {variable} to use that one")] if chosen else []


def check_place() -> list[Check]:
    """Say whether we run in Colab."""
    from course_utils.runtime import in_colab

    here = "Google Colab" if in_colab() else f"{platform.system()} {platform.machine()}, not Colab"
    return [Check("place", "ok", here)]


CHECKS: tuple[Callable[[], list[Check]], ...] = (
    check_python,
    check_packages,
    check_place,
    check_device,
    check_threads,
    check_memory,
    check_disk,
    check_data,
    check_encoder,
    check_decoder,
)


def diagnose(checks: Sequence[Callable[[], list[Check]]] = CHECKS) -> list[Check]:
    """Run the checks; one that breaks becomes a failed line."""
    found = []
    for check in checks:
        try:
            found += check()
        except Exception as error:  # whatever is wrong with this machine is what we report
            name = check.__name__.removeprefix("check_")
            reason = (str(error).splitlines() or ["no reason given"])[0]
            detail = f"cannot look: {type(error).__name__}: {reason}"
            found.append(Check(name, "failed", detail, INSTALL))
    return found


def ready(checks: Sequence[Check]) -> bool:
    """Return True if every lesson can run: nothing failed.

    Examples
    --------
    >>> ready([Check("memory", "ok", "8 GB"), Check("data", "failed", "missing", "course data")])
    False
    """
    return all(check.status != "failed" for check in checks)


def report(checks: Sequence[Check]) -> str:
    """Return the checks as aligned lines, remedies below what they mend, and a verdict.

    Examples
    --------
    >>> print(report([Check("memory", "ok", "8 GB"), Check("data", "failed", "no", "course data")]))
    ok       memory  8 GB
    failed   data    no
                     -> course data
    <BLANKLINE>
    1 failed, 0 warnings: a lesson could not run.
    """
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<8} {check.name:<{width}}  {check.detail}")
        if check.remedy:
            lines.append(f"{'':<8} {'':<{width}}  -> {check.remedy}")
    count = {s: sum(check.status == s for check in checks) for s in ("warning", "failed")}
    verdict = "every lesson can run" if ready(checks) else "a lesson could not run"
    plural = "" if count["warning"] == 1 else "s"
    lines += ["", f"{count['failed']} failed, {count['warning']} warning{plural}: {verdict}."]
    return "\n".join(lines)
