"""A trained model as an artefact: kept in the cache, known by everything that made it.

Training is slow and several lessons need its result, so a trained model is kept in a folder of the
cache: weights as safetensors, the tokenizer, the shape of the encoder, the names of the outputs,
and a record of what made it. A hash over that record is part of the folder's name. Whoever asks
for the model gets the one that today's recipe, code, data, encoder and versions would make: if no
folder has that name, it is trained, once, however many processes ask.

Left out on purpose: pickles, which can run code when they are read, and any way to get a model
whose record does not fit. An old result under a new name is how numbers go stale.
"""

import ast
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_model
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from course_utils.cards import model_card
from course_utils.checkpoints import differences
from course_utils.models import SentenceClassifier, encoder_path, load_tokenizer
from course_utils.runtime import versions
from course_utils.sources import CACHE_VARIABLE, DataError, cache_folder
from course_utils.system import sha256

# Whatever changes what a training run ends with; a change in any of them trains anew.
MODULES = ("batching", "datasets", "models", "optimization", "splits", "tasks", "training")
KEPT = 3  # folders of one name: versions of the course may share a cache


@dataclass(frozen=True)
class Artefact:
    """A trained model with all that is needed to use it.

    Attributes
    ----------
    model : SentenceClassifier
        In evaluation mode, on the CPU.
    tokenizer : PreTrainedTokenizerBase
    outputs : tuple of str
        What each column of the logits means, such as ``("rating", "negative", ...)``.
    record : dict
        What made it.
    folder : Path
    """

    model: SentenceClassifier
    tokenizer: PreTrainedTokenizerBase
    outputs: tuple[str, ...]
    record: dict[str, Any]
    folder: Path


# --- what made it -------------------------------------------------------------------------


def code_hash(source: str) -> str:
    """Return digits that change when what is executed does: not comments, layout, docstrings.

    Examples
    --------
    >>> code_hash("x = 1  # one") == code_hash("x=1"), code_hash("x = 1") == code_hash("x = 2")
    (True, False)
    """
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)] or [ast.Pass()]  # type: ignore[attr-defined]
    return _digits(ast.dump(tree).encode())


def made_of(
    recipe: Mapping[str, Any],
    make: Callable[..., object],
    data: str,
    modules: Sequence[str] = MODULES,
) -> dict[str, Any]:
    """Return the record of a model: all that decides what training ends with, as plain data.

    Parameters
    ----------
    recipe : mapping
        Numbers and names, such as ``asdict(Recipe(...))``, and the seed.
    make : function
        Trains and returns the model; its code counts.
    data : str
        A hash of the data, or of the file they come from.
    modules : sequence of str
        Modules of this package whose code counts.

    Raises
    ------
    ValueError
        If the recipe is not plain data.
    """
    if not isinstance(make, FunctionType):
        raise ValueError(f"make must be a function, so that its code counts, got {make!r}")
    weights = Path(encoder_path(), "model.safetensors")
    code = {name: code_hash(_source_of(name)) for name in modules}
    record = {
        "recipe": dict(recipe),
        "code": code | {"make": code_hash(inspect.getsource(make))},
        "data": data,
        "encoder": sha256(weights) if weights.is_file() else encoder_path(),
        "versions": {name: versions()[name] for name in ("torch", "transformers")},
    }
    try:
        return json.loads(json.dumps(record))  # as it will be read again: lists, not tuples
    except TypeError as error:
        raise ValueError(f"a recipe must be numbers, texts, lists and dicts: {error}") from None


# --- the folder ---------------------------------------------------------------------------


def trained(
    name: str,
    make: Callable[[], SentenceClassifier],
    record: dict[str, Any],
    outputs: Sequence[str],
    *,
    takes: str = "some minutes",
    cache: Path | None = None,
) -> Artefact:
    """Return a trained model from the cache; train it if it is not there, or not the same.

    Safe when several processes ask at once: one trains, the others wait and find it. The folder
    appears whole or not at all. A file that was damaged since does not match its checksum, and
    the model is made again.

    Parameters
    ----------
    name : str
        The beginning of the folder's name.
    make : function
        Trains and returns the model, showing its progress.
    record : dict
        From `made_of`.
    outputs : sequence of str
        What each output means.
    takes : str
        How long training takes, for the sentence that says why it begins.
    cache : Path, optional
        `sources.cache_folder()` if not given.

    Raises
    ------
    DataError
        If the model must be trained and the cache cannot be written.
    """
    root = (cache or cache_folder()) / "models"
    folder = root / f"{name}-{_digits(json.dumps(record, sort_keys=True).encode())}"
    if not damage(folder):
        return load_artefact(folder)  # the common case writes nothing: a read-only cache will do
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{folder.name}.lock"):
            if why := damage(folder):  # else: another process made it while we waited
                print(
                    f"Training {name}, once; it takes {takes}. Why: {_reason(why, folder, record)}."
                )
                write_artefact(make(), record, outputs, folder)
                _forget_oldest(root, name)
    except OSError as error:
        raise DataError(
            f"cannot keep the model {name} in {root}: {error.strerror or error}. Set "
            f"{CACHE_VARIABLE} to a folder that you may write to."
        ) from error
    return load_artefact(folder)


def damage(folder: Path) -> str:
    """Return what is wrong with an artefact's folder; nothing, if all its files are as written.

    Examples
    --------
    >>> damage(Path("nowhere"))
    'it is not in the cache'
    """
    if not folder.is_dir():
        return "it is not in the cache"
    try:
        files = json.loads((folder / "record.json").read_text(encoding="utf-8"))["files"]
        bad = [file for file, digits in files.items() if sha256(folder / file) != digits]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "a file of it is missing or cannot be read"
    return f"{bad[0]} is damaged (its checksum differs)" if bad else ""


def load_artefact(folder: Path | str) -> Artefact:
    """Load a model from its folder, without the encoder it was made from.

    Raises
    ------
    ValueError
        If there is no whole artefact.
    """
    folder = Path(folder)
    if wrong := damage(folder):
        raise ValueError(f"no usable model in {folder}: {wrong}")
    content = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    config = AutoConfig.from_pretrained(folder)
    outputs = tuple(content["outputs"])
    with torch.random.fork_rng():  # a new model draws weights, and these are about to be replaced
        encoder = AutoModel.from_config(config, attn_implementation=attention)
        model = SentenceClassifier(encoder, len(outputs), config.hidden_dropout_prob)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Artefact(model.eval(), tokenizer, outputs, content["made_of"], folder)


def write_artefact(
    model: SentenceClassifier,
    record: dict[str, Any],
    outputs: Sequence[str],
    folder: Path,
    card: str = "",
) -> None:
    """Write all files into another folder first, which then takes the name.

    Parameters
    ----------
    model, record, outputs
        As for `trained`. The model ends on the CPU; the record may have a `serving.rules.Use`.
    folder : Path
        Replaced if it is there; its parent must be there.
    card : str, optional
        The model card, as Markdown; `cards.model_card` writes it if not given.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        inside = Path(partial, "whole")
        inside.mkdir()
        save_model(model.cpu(), str(inside / "model.safetensors"))
        model.encoder.config.save_pretrained(inside)
        load_tokenizer().save_pretrained(inside)
        card = card or model_card(folder.name, outputs, record)
        (inside / "README.md").write_text(card, encoding="utf-8")
        for file in inside.iterdir():
            file.chmod(0o644)  # a classroom may share the folder: safetensors makes it private
        files = {file.name: sha256(file) for file in sorted(inside.iterdir())}
        content = {"made_of": record, "outputs": list(outputs), "files": files}
        (inside / "record.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        os.replace(inside, folder)


def _reason(why: str, folder: Path, record: dict[str, Any]) -> str:
    """Say what is new, if there is a model of this name that was made of something else."""
    others = _folders(folder.parent, folder.name.rpartition("-")[0])
    if folder.exists() or not others:
        return why
    old = json.loads((others[-1] / "record.json").read_text(encoding="utf-8"))["made_of"]
    changed = [text.split(" was ")[0] for text in differences(old, record)]
    return f"the one in the cache was made with other settings ({', '.join(changed[:4])})"


def _forget_oldest(root: Path, name: str) -> None:
    for old in _folders(root, name)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _folders(root: Path, name: str) -> list[Path]:
    """Return the whole folders of one name, the newest last."""
    found = [p.parent for p in root.glob(f"{name}-*/record.json") if p.parent.name[:-17] == name]
    return sorted(found, key=lambda folder: folder.stat().st_mtime)


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _source_of(module: str) -> str:
    spec = find_spec(f"course_utils.{module}")
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module course_utils.{module}")
    return Path(spec.origin).read_text(encoding="utf-8")


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
