"""A refused load leaves the model as it was, whatever is in the folder; and the base is recognized."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load
from adapterlab.surgery.handle import attached
from adapterlab.surgery.model.new_heads import mark_new_heads
from tests.adapters.methods import small
from tests.conftest import tiny_gpt2, tiny_llama


def snapshot(model):
    """All that a load could change: tensors, flags, hooks, modules and attributes."""
    tensors = {
        name: (id(t), t.detach().clone(), t.requires_grad) for name, t in model.state_dict(keep_vars=True).items()
    }
    hooks = {
        n: [list(h) for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
        for n, m in model.named_modules()
    }
    names = {n: (type(m), sorted(vars(m)), sorted(m._modules)) for n, m in model.named_modules()}
    marks = vars(model).get("adapterlab_new_heads")
    return tensors, hooks, names, marks


def same(before, after):
    tensors, others = before[0], after[0]
    assert tensors.keys() == others.keys()
    for name, (identity, values, trains) in tensors.items():
        assert others[name][0] == identity
        assert others[name][2] == trains
        assert torch.equal(others[name][1], values)
    assert before[1:] == after[1:]


def classifier(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=3,
        pad_token_id=0,
    )
    return LlamaForSequenceClassification(config).eval()


def refused(model, folder, message=None, **options):
    before = snapshot(model)
    with pytest.raises(AdapterlabError, match=message) as caught:
        load(model, folder, **options)
    assert "\n" not in str(caught.value)
    same(before, snapshot(model))


def edited(folder, **changes):
    card = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(card | changes))


@pytest.fixture
def saved(tmp_path):
    attach(tiny_llama(), small("lora"), targets=["q_proj"]).save(tmp_path / "lora")
    return tmp_path / "lora"


@pytest.fixture
def with_head(tmp_path):
    model = classifier()
    mark_new_heads(model, ["score.weight"])
    attach(model, small("lora")).save(tmp_path / "head")
    return tmp_path / "head"


def test_a_trained_head_survives_a_refused_load(with_head):
    """A mark that stayed would make the next `attach` draw the head at random."""
    model = classifier()
    trained = model.score.weight.detach().clone()
    edited(with_head, targets="no_such_layer")
    refused(model, with_head, "unknown target")
    attach(model, small("lora"), seed=1)
    assert torch.equal(model.score.weight, trained)


def test_a_trained_head_survives_load_and_detach(with_head):
    model = classifier()
    with torch.no_grad():
        model.score.weight.fill_(7.0)
    before = snapshot(model)
    handle = load(model, with_head)
    assert list(handle.new_heads) == ["score.weight"]
    assert not (model.score.weight == 7).any()
    handle.detach()
    same(before, snapshot(model))
    attach(model, small("lora"), seed=1)
    assert (model.score.weight == 7).all()


def test_marks_of_the_model_itself_stay(with_head):
    model = classifier()
    mark_new_heads(model, ["score.weight"])
    load(model, with_head).detach()
    assert vars(model)["adapterlab_new_heads"] == ("score.weight",)


@pytest.mark.parametrize(
    "path", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_only_a_head_can_be_new(with_head, path):
    model = classifier()
    tensors = load_file(with_head / "adapter.safetensors")
    tensors[f"fresh/{path}"] = model.get_parameter(path).detach() + 1
    save_file(tensors, with_head / "adapter.safetensors")
    edited(with_head, fresh=["score.weight", path])
    refused(model, with_head, f"{path} as a new head")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_tensors_that_are_not_finite_are_refused(saved, bad):
    tensors = load_file(saved / "adapter.safetensors")
    key = sorted(tensors)[0]
    tensors[key][0, 0] = bad
    save_file(tensors, saved / "adapter.safetensors")
    refused(tiny_llama(), saved, "holds NaN or infinity")


@pytest.mark.parametrize("name", ["trainable_tokens", "shira", "fourierft", "vblora", "frod"])
@pytest.mark.parametrize("wrong", ["above", "below", "twice"])
def test_indices_out_of_range_are_refused(name, wrong, tmp_path):
    attach(tiny_llama(), small(name)).save(tmp_path)
    tensors = load_file(tmp_path / "adapter.safetensors")
    key = next(key for key, t in tensors.items() if not t.is_floating_point())
    indices = tensors[key].long()
    first = indices.view(-1, indices.shape[-1])[0]
    first[0] = {"above": 100_000, "below": -1, "twice": first[1]}[wrong]
    save_file(tensors | {key: indices}, tmp_path / "adapter.safetensors")
    refused(tiny_llama(), tmp_path, "holds indices from" if wrong != "twice" else "holds an index twice")


def test_indices_in_place_of_numbers_are_refused(saved):
    tensors = load_file(saved / "adapter.safetensors")
    save_file({key: t.to(torch.int32) for key, t in tensors.items()}, saved / "adapter.safetensors")
    refused(tiny_llama(), saved, "holds I32")


def header_of(folder, shape, size):
    """A sparse file whose header promises one tensor."""
    length = size
    header = json.dumps(
        {"model.layers.0.self_attn.q_proj/a": {"dtype": "F32", "shape": shape, "data_offsets": [0, length]}}
    )
    with (folder / "adapter.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + length)


def test_a_large_tensor_is_refused_before_memory_is_taken(saved):
    header_of(saved, [3, 250_000_000], 3_000_000_000)
    refused(tiny_llama(), saved, r"it holds \(3, 250000000\), this model needs \(3, 32\)|Cannot allocate memory")
    header_of(saved, [3, 2_500_000_000], 30_000_000_000)
    refused(tiny_llama(), saved, r"it holds \(3, 2500000000\), this model needs \(3, 32\)|Cannot allocate memory")


@pytest.mark.parametrize(("shape", "size"), [([3, 32], 4), ([3, 32], 10**6), ([2**62, 2**62], 384), ([-1, 32], 384)])
def test_shapes_that_lie_are_refused(saved, shape, size):
    header_of(saved, shape, size)
    refused(tiny_llama(), saved, r"adapter\.safetensors is damaged")


def test_tensors_that_nothing_reads_are_named(saved):
    save_file(
        load_file(saved / "adapter.safetensors") | {"model.layers.7.x/a": torch.ones(1)}, saved / "adapter.safetensors"
    )
    refused(tiny_llama(), saved, r"holds model\.layers\.7\.x/a, for which")


MALFORMED = [
    "", "[]", "null", "3", '"lora"', "{", "{}", '{"adapter": {}, "targets": "all-linear"}',
    '{"adapter": "lora", "targets": "all-linear"}', '{"adapter": {"name": 3}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora"}, "targets": [1]}',
    '{"adapter": {"name": "lora"}, "targets": "all-linear", "layers": ["a"]}',
    '{"adapter": {"name": "lora", "rank": NaN}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora", "alpha": 1e999}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora", "alpha": 1%s}, "targets": "all-linear"}' % ("0" * 400),
    '{"adapter": {"name": "lora", "rank": -3}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora", "rank": 0}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora", "rank": 9007199254740992}, "targets": "all-linear"}',
    '{"adapter": {"name": "lora"}, "targets": "all-linear", "unknown": 1}',
    '{"adapter": {"name": "lora"}, "targets": "all-linear", "base": {"x": "1 2"}}',
    '{"adapter": {"name": "lora"}, "targets": "all-linear", "fresh": "score"}',
    '{"adapter": {"name": "peft:LORA", "r": []}, "targets": "all-linear"}',
    "[" * 100_000, '{"a": "\\ud800"}',
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*has no fingerprint of the base")
@pytest.mark.parametrize("card", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_card_is_refused(saved, card):
    (saved / "adapter.json").write_text(card)
    refused(tiny_llama(), saved)


def test_a_card_that_is_not_text_is_refused(saved):
    (saved / "adapter.json").write_bytes(b"\xff\xfe{")
    refused(tiny_llama(), saved, r"adapter\.json is damaged")
    (saved / "adapter.json").unlink()
    (saved / "adapter.json").mkdir()
    refused(tiny_llama(), saved, r"adapter\.json does not exist")


def test_a_huge_card_is_not_read(saved):
    with (saved / "adapter.json").open("wb") as file:
        file.truncate(30_000_000_000)
    refused(tiny_llama(), saved, "more than 64 MiB")


# --- the base ---


def test_another_seed_is_another_base(saved):
    refused(
        tiny_llama(seed=1), saved, r"another base: in this model .*q_proj\.weight has other values; .*any_base=True"
    )


def test_another_depth_is_another_base(tmp_path):
    attach(tiny_llama(), small("lora"), layers=[0]).save(tmp_path)
    deeper = tiny_llama(num_hidden_layers=3)
    deeper.load_state_dict(tiny_llama().state_dict(), strict=False)
    refused(deeper, tmp_path, r"it has model\.layers\.2\..* too")
    load(deeper, tmp_path, any_base=True).detach()
    refused(tiny_llama(num_hidden_layers=1), tmp_path, r"it has no model\.layers\.1\.")


@pytest.mark.parametrize("name", ["prompt", "ln_tuning", "bitfit", "reft"])
def test_methods_that_adapt_no_matrix_know_their_base(name, tmp_path):
    """Norms and biases of untrained models are equal, and prompts adapt no weight at all."""
    attach(tiny_llama(), small(name)).save(tmp_path)
    refused(tiny_llama(seed=1), tmp_path, "another base")
    load(tiny_llama(), tmp_path)


def test_any_base_loads_on_another(saved, tokens):
    model = tiny_llama(seed=1)
    handle = load(model, saved, any_base=True)
    handle.save(saved)
    load(tiny_llama(seed=1), saved)


@pytest.mark.parametrize("trained", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("loaded", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_one_checkpoint_is_one_base_in_every_dtype(trained, loaded, stored, tmp_path):
    def base():
        return tiny_llama().to(stored)

    attach(base().to(trained), small("lora"), targets=["q_proj"]).save(tmp_path)
    load(base().to(loaded), tmp_path)
    refused(tiny_llama(seed=1).to(loaded), tmp_path, "another base")


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_adapters_below_are_not_part_of_the_base(tmp_path):
    model = tiny_llama()
    below = attach(model, small("lora"), name="below")
    torch.nn.init.normal_(next(iter(below.sites.values())).state["b"])
    below.merge()
    above = attach(model, small("ia3"), name="above")
    above.save(tmp_path)
    load(tiny_llama(), tmp_path)
    below.unmerge()
    above.save(tmp_path)
    load(tiny_llama(), tmp_path)


def test_a_card_of_an_older_version_is_loaded_with_a_warning(saved):
    card = json.loads((saved / "adapter.json").read_text())
    del card["base"]
    (saved / "adapter.json").write_text(json.dumps(card))
    with pytest.warns(UserWarning, match="no fingerprint of the base"):
        load(tiny_llama(), saved)


def test_added_tokens_make_no_other_base(saved):
    model = tiny_llama()
    model.resize_token_embeddings(70)
    load(model, saved)


def test_conv1d_layers_have_a_base(tmp_path):
    attach(tiny_gpt2(), small("lora")).save(tmp_path)
    load(tiny_gpt2(), tmp_path)
    refused(tiny_gpt2(seed=1), tmp_path, "another base")


# --- a fuzz ---

KNOWN = ["lora", "vera", "dora", "ia3", "trainable_tokens", "svft", "prompt", "shira", "peft:LORA", "all-linear"]
KNOWN += ["q_proj", "query", "model.norm.weight", "score.weight", "*", "model.layers.0.self_attn.q_proj/a"]
KNOWN += ["name", "rank", "alpha", "ids", "adapter"]
SIMPLE = st.none() | st.booleans() | st.integers(-5, 70) | st.integers(-(10**400), 10**400) | st.floats()
NAMED = st.sampled_from(KNOWN) | st.text(max_size=4)
VALUES = st.recursive(
    SIMPLE | NAMED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=3),
    max_leaves=6,
)
KEYS = ["adapterlab", "adapter", "targets", "exclude", "layers", "settings", "aliases", "fresh", "trained_too", "below"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A model, folders of adapters, and what the model looks like."""
    folders = {}
    for name in ("lora", "trainable_tokens", "svft", "ia3", "prompt"):
        folders[name] = tmp_path_factory.mktemp(name)
        attach(tiny_llama(num_hidden_layers=1), small(name)).save(folders[name])
    model = tiny_llama(num_hidden_layers=1)
    return model, folders, snapshot(model), tmp_path_factory.mktemp("fuzzed")


@st.composite
def cards(draw):
    """Changes of a card: a key of it, or one setting of the method."""
    name = draw(st.sampled_from(["lora", "trainable_tokens", "svft", "ia3", "prompt"]))
    whole = draw(st.dictionaries(st.sampled_from([*KEYS, "base"]), VALUES, max_size=2))
    fields = [*small(name).settings(), "unknown"]
    return name, whole, draw(st.dictionaries(st.sampled_from(fields), VALUES, max_size=2))


def check_card(fuzzed, case):
    model, folders, _, folder = fuzzed
    name, whole, setting = case
    card = json.loads((folders[name] / "adapter.json").read_text())
    card["adapter"] |= setting
    shutil.copy(folders[name] / "adapter.safetensors", folder)
    (folder / "adapter.json").write_text(json.dumps(card | whole))
    check_load(fuzzed)
    assert not attached(model)


def check_load(fuzzed):
    """The folder is loaded and detached again, or refused in one line or with one of our warnings."""
    model, _, before, folder = fuzzed
    said = ""
    try:
        load(model, folder).detach()
    except (AdapterlabError, UserWarning) as error:
        said = str(error)
    assert "\n" not in said
    same(before, snapshot(model))


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@settings(max_examples=200, **FUZZ)
@example(("lora", {"base": None}, {}))
@example(("lora", {}, {"rank": 10**400}))
@given(case=cards())
def test_no_card_breaks_the_loader(fuzzed, case):
    check_card(fuzzed, case)


@pytest.mark.soak
@settings(max_examples=10_000, **FUZZ)
@given(case=cards())
def test_no_card_of_many_breaks_the_loader(fuzzed, case):
    check_card(fuzzed, case)


@st.composite
def damage(draw):
    """Changes of the text of a card: each replaces some bytes by others, which may be pieces of JSON."""
    piece = st.binary(max_size=3) | st.sampled_from(
        [b"null", b"[]", b"{", b'"', b"-1", b"1e999", b"NaN", b"\\u0000", b",,"]
    )
    changes = st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 9), piece), min_size=1, max_size=4)
    return draw(st.sampled_from(["lora", "trainable_tokens", "svft", "ia3", "prompt"])), draw(changes)


def check_damaged_card(fuzzed, case):
    model, folders, _, folder = fuzzed
    name, changes = case
    text = bytearray((folders[name] / "adapter.json").read_bytes())
    for at, length, piece in changes:
        at %= len(text)
        text[at : at + length] = piece
    shutil.copy(folders[name] / "adapter.safetensors", folder)
    (folder / "adapter.json").write_bytes(text)
    check_load(fuzzed)
    assert not attached(model)


@settings(max_examples=100, **FUZZ)
@given(case=damage())
def test_no_damage_of_a_cards_text_breaks_the_loader(fuzzed, case):
    check_damaged_card(fuzzed, case)


@pytest.mark.soak
@settings(max_examples=10_000, **FUZZ)
@given(case=damage())
def test_no_damage_of_many_of_a_cards_text_breaks_the_loader(fuzzed, case):
    check_damaged_card(fuzzed, case)


@settings(max_examples=100, **FUZZ)
@given(data=st.data())
def test_no_damage_of_the_tensors_breaks_the_loader(fuzzed, data):
    _, folders, _, folder = fuzzed
    name = data.draw(st.sampled_from(sorted(folders)))
    content = bytearray((folders[name] / "adapter.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(content) - 1, 600)))
        content[at] = data.draw(st.integers(0, 255))
    (folder / "adapter.safetensors").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    shutil.copy(folders[name] / "adapter.json", folder)
    check_load(fuzzed)
