"""The `algorithm` task: results of the calls, and their lengths by part."""

from __future__ import annotations

import re

import pytest

from adapterlab.tasks import task
from adapterlab.tasks.algorithm import LENGTHS, LONGER, OPERATIONS
from adapterlab.tasks.base import Part

PARTS = (Part.TRAIN, Part.VALIDATION, Part.TEST, Part.OOD)
BY_HAND = {
    "sort": {"3102": "0123", "9559": "5599"},
    "reverse": {"3102": "2013", "120": "021"},
    "unique": {"3132": "312", "9959": "95"},
    "sum": {"3102": "6", "999": "7"},
}


def calls(part: Part) -> list[tuple[str, str, str]]:
    found = []
    for prompt, completion in task("algorithm").completions(part):
        operation, digits = re.fullmatch(r'(\w+)\("(\d+)"\) == "', prompt).groups()
        found.append((operation, digits, completion.removesuffix('"')))
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_match_results_worked_out_by_hand(name):
    assert {digits: OPERATIONS[name](digits) for digits in BY_HAND[name]} == BY_HAND[name]


@pytest.mark.parametrize("part", PARTS)
def test_every_completion_is_the_result_of_its_call(part):
    found = calls(part)
    assert {operation for operation, _, _ in found} == set(OPERATIONS)
    assert all(OPERATIONS[operation](digits) == given for operation, digits, given in found)
    assert len(set(found)) == len(found) >= 500


def test_out_of_domain_is_longer_than_anything_trained_on():
    lengths = {part: {len(digits) for _, digits, _ in calls(part)} for part in PARTS}
    assert lengths[Part.TRAIN] == lengths[Part.VALIDATION] == lengths[Part.TEST] == set(LENGTHS)
    assert lengths[Part.OOD] == set(LONGER)
    assert min(LONGER) > max(LENGTHS)


def test_a_string_of_digits_is_in_one_part_for_all_operations():
    strings = [{digits for _, digits, _ in calls(part)} for part in PARTS]
    assert len(set.union(*strings)) == sum(map(len, strings))


def test_the_parts_are_an_even_mix_of_the_operations():
    found = [operation for operation, _, _ in calls(Part.TRAIN)]
    for operation in OPERATIONS:
        assert abs(found.count(operation) / len(found) - 1 / len(OPERATIONS)) < 0.02
