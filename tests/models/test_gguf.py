"""GGUF files: converted, they compute what the model computes that they were written from; what cannot be is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from adapterlab.errors import AdapterlabError, ChangedInputError
from adapterlab.input_files import InputFiles
from adapterlab.models import gguf_file, gguf_reading
from adapterlab.models.fingerprint import fingerprint, folder_of, model_stamps
from adapterlab.models.listing import listed
from adapterlab.models.loading import load
from adapterlab.models.width import width
from tests.models.gguf_files import MERGES, SPECIAL, TOKENS, as_stored, small_llama, write_gguf

Kind = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERLAB_CACHE", str(tmp_path / "cache"))


@torch.no_grad()
def logits(model):
    ids = torch.arange(3, 23).reshape(2, 10) % model.config.vocab_size
    return model.float()(ids).logits


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1])
@pytest.mark.parametrize("tied", [True, False])
def test_a_converted_llama_computes_what_it_was_written_from(kind, tied, tmp_path):
    model = small_llama(tie_word_embeddings=tied)
    file = write_gguf(tmp_path / "tiny.gguf", model, kind)
    loaded = load(str(file)).model
    assert torch.allclose(logits(loaded), logits(as_stored(model, kind)), atol=1e-6)
    assert loaded.config.tie_word_embeddings is tied
    again = AutoModelForCausalLM.from_pretrained(folder_of(str(file)), dtype=torch.float32)
    assert torch.equal(logits(again), logits(loaded))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_converted_qwen_computes_what_it_was_written_from(family, tmp_path):
    shape = {
        "vocab_size": len(TOKENS),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    made = Qwen2ForCausalLM(Qwen2Config(**shape)) if family == "qwen2" else Qwen3ForCausalLM(Qwen3Config(**shape))
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            parameter.data.uniform_(0.5, 1.5)
    file = write_gguf(tmp_path / "tiny.gguf", made.eval(), architecture=family, split="qwen2")
    assert torch.allclose(logits(load(str(file)).model), logits(made), atol=1e-5)


def test_its_tokenizer_splits_digits_one_by_one_and_keeps_special_tokens_whole(tmp_path):
    tokenizer = load(str(write_gguf(tmp_path / "tiny.gguf", small_llama()))).tokenizer
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    expected = Tokenizer(models.BPE(vocabulary, [tuple(merge.split()) for merge in MERGES]))
    expected.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    expected.decoder = decoders.ByteLevel()
    for text in ("hello  in  12 hello\n", "  12", "x=  345 \tnaïve € 日本"):
        ids = tokenizer(text)["input_ids"]
        assert ids == expected.encode(text).ids
        assert tokenizer.decode(ids) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert [tokenizer(mark)["input_ids"] for mark in SPECIAL] == [[0], [1], [2]]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)


def test_a_file_is_one_model_wherever_it_is_and_another_one_when_it_changes(tmp_path):
    first = write_gguf(tmp_path / "tiny.gguf", small_llama(), Kind.Q8_0)
    other = tmp_path / "elsewhere" / "copy.gguf"
    other.parent.mkdir()
    shutil.copy(first, other)
    (other.parent / "config.json").write_text("{}")  # what is beside the file has no part in it
    (other.parent / "chat_template.jinja").write_text("wrong")
    before = fingerprint(str(first))
    assert before == fingerprint(str(other))
    assert width(str(first)) == 64
    stamps = InputFiles(model_stamps(str(first)))
    stamps.check()
    write_gguf(first, small_llama(seed=1), Kind.Q8_0)
    with pytest.raises(ChangedInputError, match=r"tiny\.gguf has changed"):
        stamps.check()
    assert fingerprint(str(first)) not in (before, fingerprint(str(other)))


def test_the_conversion_writes_the_same_bytes_each_time(tmp_path, monkeypatch):
    file, folders = write_gguf(tmp_path / "tiny.gguf", small_llama(), Kind.Q8_0), []
    for name in ("one", "two"):
        monkeypatch.setenv("ADAPTERLAB_CACHE", str(tmp_path / name))
        folders.append(gguf_file.converted(file))
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= {*contents[0]}
    assert not any(b"transformers_version" in content for content in contents[0].values())
    card = gguf_file.card_of(folders[0])
    assert (card["file"], card["licence"], card["name"]) == ("tiny.gguf", "mit", "A tiny model")


def test_it_is_listed_and_converted_once(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", small_llama())
    load(str(file))
    (row,) = [row for row in listed() if row.name == "tiny.gguf"]
    assert (row.parameters, row.licence) == (sum(p.numel() for p in small_llama().parameters()), "mit")
    monkeypatch.setattr(gguf_file, "convert", None)
    load(str(file))


def test_a_model_without_a_chat_template_is_a_plain_language_model(tmp_path):
    assert load(str(write_gguf(tmp_path / "tiny.gguf", small_llama(), template=False))).tokenizer.chat_template is None


def cut_short(file: Path, share: float) -> Path:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    return file


def retyped(file: Path, kind: int) -> Path:
    """Change the type of the first tensor in the file's table of tensors."""
    content = bytearray(file.read_bytes())
    at = content.rindex(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
    content[at : at + 4] = kind.to_bytes(4, "little")
    file.write_bytes(content)
    return file


WRONG = {
    "not GGUF": (lambda f: f.write_bytes(b"PK\3\4 a zip"), "is not a GGUF file: give one"),
    "empty": (lambda f: f.write_bytes(b""), "is not a GGUF file"),
    "cut in the header": (
        lambda f: cut_short(write_gguf(f, small_llama()), 0.05),
        r"is damaged or only part of a file \(",
    ),
    "cut in the weights": (
        lambda f: cut_short(write_gguf(f, small_llama()), 0.9),
        r"is damaged or only part of a file \(",
    ),
    "architecture": (
        lambda f: write_gguf(f, small_llama(), architecture="mamba"),
        r"of the architecture 'mamba': known are llama, qwen2",
    ),
    "unknown type": (lambda f: retyped(write_gguf(f, small_llama()), 77), "has an unknown quantization .*77"),
    "type without a reader": (
        lambda f: retyped(write_gguf(f, small_llama()), 24),
        "quantized as I8, which .* cannot read",
    ),
    "scaled rotary embeddings": (
        lambda f: write_gguf(f, small_llama(), more={"llama.rope.scaling.type": "yarn"}),
        r"sets llama\.rope\.scaling\.type = yarn, which transformers would ignore",
    ),
    "rotary factors": (
        lambda f: write_gguf(f, small_llama(), tensors={"rope_freqs.weight": np.ones(8, np.float32)}),
        "scales its rotary embeddings",
    ),
    "biases": (
        lambda f: write_gguf(f, small_llama(attention_bias=True)),
        "has 28 tensors, but only 20 of them have a place",
    ),
    "missing tensors": (
        lambda f: write_gguf(f, small_llama(), more={"llama.block_count": 3}),
        r"cannot convert .*: its tensors are not those of its configuration \(model\.layers\.2",
    ),
    "heads": (
        lambda f: write_gguf(f, small_llama(), more={"llama.attention.key_length": 32}),
        r"states attention\.key_length = 32, but its heads have 16 entries",
    ),
    "no tokenizer": (lambda f: write_gguf(f, small_llama(), tokenizer=False), "has no tokenizer"),
    "unknown tokenizer": (
        lambda f: write_gguf(f, small_llama(), split="viking"),
        r"has a tokenizer of an unknown kind \(gpt2, viking\)",
    ),
    "one part of several": (lambda f: write_gguf(f, small_llama(), more={"split.count": 2}), "is one part of 2"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("ignore:Duplicated key name:UserWarning")
def test_a_wrong_file_gives_one_line_and_leaves_nothing(case, tmp_path):
    make, says = WRONG[case]
    make(tmp_path / "bad.gguf")
    with pytest.raises(AdapterlabError, match=says) as error:
        load(str(tmp_path / "bad.gguf"))
    assert "\n" not in str(error.value)
    assert "bad.gguf" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_a_missing_file_and_a_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(AdapterlabError, match=r"there is no file none\.gguf"):
        load("none.gguf")
    file = write_gguf(tmp_path / "tiny.gguf", small_llama())
    monkeypatch.setattr(gguf_reading, "find_spec", lambda name: None)
    with pytest.raises(AdapterlabError, match=r"pip install 'adapterlab\[gguf\]'"):
        load(str(file))
