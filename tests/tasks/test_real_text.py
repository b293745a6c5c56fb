"""Tasks on text that is on the machine or made here: docstrings, arithmetic, dictionary, persona."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.files import cache_folder
from adapterlab.lab.trial.score import NoAdapter
from adapterlab.models.loading import load_causal
from adapterlab.tasks import arithmetic, dictionary, docstrings, persona, task
from adapterlab.tasks.base import Part
from tests.tasks.wordnet import write_wordnet

PARTS = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.OOD)


class Chat:
    """A tokenizer of characters with a chat template."""

    eos_token_id, bos_token_id, chat_template = 0, None, "yes"

    def __call__(self, text, *, add_special_tokens=True):
        return {"input_ids": [[min(ord(c), 4000) for c in t] for t in text]}

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt):
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"


def solve(prompt: str) -> int:
    """Read a problem as a person would, sentence by sentence."""
    story = prompt.removeprefix("Q: ").rpartition("?")[0] or prompt.removeprefix("Q: ").rpartition(". State")[0]
    total = None
    for sentence in re.split(r"(?<=\.) ", story):
        numbers = re.findall(r"\d+", sentence)
        if not numbers:
            continue
        number = int(numbers[0])
        if total is None:
            total = number
        elif "times" in sentence or "multiplied" in sentence:
            total *= number
        elif any(words in sentence for words in ("loses", "sold", "thrown", "carries off")) or re.search(
            r"^(\w+) gives \d", sentence
        ):
            total -= number
        else:
            total += number
    return total


@pytest.mark.parametrize("part", PARTS)
def test_the_answers_of_the_problems_are_right(part):
    for problem in arithmetic.problems(part)[:400]:
        assert int(problem.completion) == solve(problem.prompt), problem
        assert int(problem.completion) >= 0


def test_the_problems_out_of_domain_are_of_three_kinds_that_training_has_not():
    steps = {part: {len(re.findall(r"\d+", p.prompt)) - 1 for p in arithmetic.problems(part)} for part in PARTS}
    assert steps[Part.TRAIN] == steps[Part.TEST] == {1, 2}
    kinds = {kind: [p for p in arithmetic.problems(Part.OOD) if p.kind == kind] for kind in
             (arithmetic.LONGER, arithmetic.WORDING, arithmetic.STEP)}  # fmt: skip
    assert {len(problems) for problems in kinds.values()} == {200}
    assert all(len(re.findall(r"\d+", p.prompt)) == 4 for p in kinds[arithmetic.STEP])
    assert all(max(map(int, re.findall(r"\d+", p.prompt))) >= 120 for p in kinds[arithmetic.LONGER])
    trained = " ".join(p.prompt for p in arithmetic.problems(Part.TRAIN))
    openings = {re.split(r"\d", p.prompt.split("Q: ")[1])[0].split("'s")[-1] for p in kinds[arithmetic.WORDING]}
    assert not any(" holds " in trained or "counted" in trained for _ in openings)
    assert task("arithmetic").metric == "exact_match"


def test_a_docstring_is_not_in_its_own_prompt_and_the_source_is_whole():
    source = ast.parse(Path(np.linalg._linalg.__file__).read_text())
    functions = {node.name: node for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
    pairs = list(docstrings.summaries(ast.unparse(source)))
    assert len(pairs) > 10
    for pair in pairs:
        (made,) = ast.parse(pair.prompt).body
        original = functions[made.name]
        assert ast.dump(ast.Module(made.body, [])) == ast.dump(ast.Module(original.body[1:], []))
        assert ast.get_docstring(original).split("\n\n")[0].split() == pair.completion.split()


def test_the_functions_come_from_the_packages_that_are_named_and_the_cache_returns_them(monkeypatch):
    first = {part: task("docstrings").completions(part) for part in PARTS}
    assert len(first[Part.TRAIN]) > 300
    before = task("docstrings").fingerprint()
    assert f"numpy {np.__version__}" in before
    assert f"torch {torch.__version__}" in before
    docstrings._pairs.cache_clear()
    monkeypatch.setattr(docstrings, "_divided", None)  # read from the cache
    assert {part: task("docstrings").completions(part) for part in PARTS} == first
    assert task("docstrings").fingerprint() == before


def test_a_damaged_cache_of_docstrings_is_read_again(monkeypatch):
    before = task("docstrings").fingerprint()
    for stored in (cache_folder() / "docstrings").iterdir():
        stored.write_text(stored.read_text().replace("Return", "Retrun"))
    docstrings._pairs.cache_clear()
    assert task("docstrings").fingerprint() == before


def test_the_dictionary_holds_words_with_meanings_and_no_examples(wordnet):
    pairs = {part: task("dictionary").completions(part) for part in PARTS}
    assert sum(map(len, pairs.values())) == 900 + 900 + 225
    assert ("adv 3 (adverb):", " the 3th adv, made up") in pairs[Part.OOD]
    words = {part: {p.prompt.split(" (")[0] for p in found} for part, found in pairs.items()}
    assert not words[Part.TRAIN] & (words[Part.TEST] | words[Part.VALIDATION] | words[Part.OOD])
    assert not words[Part.TEST] & words[Part.VALIDATION]  # a word that is noun and verb is in one part


def test_another_dictionary_is_another_fingerprint_and_none_is_named(wordnet, tmp_path, monkeypatch):
    before = task("dictionary").fingerprint()
    monkeypatch.setenv("WNSEARCHDIR", str(write_wordnet(tmp_path, words=100)))
    assert task("dictionary").fingerprint() != before
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "none"))
    with pytest.raises(AdapterlabError, match=r"there is no .*data\.noun: apt-get install wordnet-base") as error:
        task("dictionary").completions(Part.TRAIN)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not (dictionary.FOLDER / "data.noun").is_file(), reason="Debian's wordnet-base is not installed")
def test_the_real_dictionary(monkeypatch):
    monkeypatch.delitem(os.environ, "WNSEARCHDIR")
    pairs = {part: dict(task("dictionary").completions(part)) for part in PARTS}
    assert {part: len(found) for part, found in pairs.items()} == dictionary.ENTRIES
    lines = (dictionary.FOLDER / "data.adv").read_text().splitlines()
    for prompt, gloss in list(pairs[Part.OOD].items())[:50]:
        word = prompt.removesuffix(" (adverb):").replace(" ", "_")
        found = [line.partition(" | ")[2].strip() for line in lines if f" {word} " in line]
        assert any(text.startswith(gloss.strip()) for text in found), prompt


def test_the_two_manners_answer_the_same_question(wordnet):
    tokenizer = load_causal().tokenizer
    trained = {words for p in persona.persona_pairs(Part.TRAIN) for words in re.findall(r"[^.!?]+[.!?]", p.chosen)}
    other = {words for p in persona.persona_pairs(Part.OOD) for words in re.findall(r"[^.!?]+[.!?]", p.chosen)}
    assert not trained & other
    pair = persona.persona_pairs(Part.TEST)[0]
    plain, chat = (persona._as_chat(pair, t).prompt for t in (tokenizer, Chat()))
    assert plain == f"User: {pair.prompt}\nAssistant:"
    assert chat == f"<user>{pair.prompt}<assistant>"
    model = load_causal().model
    scores = task("persona").score(model, task("persona").examples(Part.TEST, tokenizer, 128, 8), NoAdapter())
    assert scores.loss == 0
    assert len(task("persona").examples(Part.TEST, Chat(), 300, 8)) == 8
