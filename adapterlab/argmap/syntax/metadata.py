"""Metadata: the YAML in braces behind an element, in front matter and in inference lines.

It is read as the reference implementation reads it (YAML 1.2's core schema: `on` and `yes` are words, `1e3` is a
number). Its depth is bounded and aliases are refused, so that no block can expand beyond its own text.

>>> read_block('{reason: "seen twice", credence: 0.8}')
{'reason': 'seen twice', 'credence': 0.8}
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

Metadata = dict[str, object]
"""A mapping read from YAML: its values are numbers, strings, booleans, None, lists and mappings."""

MAX_DEPTH = 40
"""Levels of nested brackets in one block."""
MAX_SIZE = 100_000
"""Characters in one block."""
MAX_INTEGER = 2**53
"""Largest integer; larger ones become floats."""
MAX_DIGITS = 400
"""Decimal digits of the longest number that is read as an integer before it becomes a float."""

_KEY = r"(?!(?:null|true|false|nan|inf)\b)[A-Za-z_][A-Za-z0-9_-]*"
_PLAIN_BLOCK = re.compile(rf'\{{\s*(?:{_KEY}:[ ](?:"[^"\\\r\n]*"|[0-9]+\.[0-9]+)(?:,\s*(?=[A-Za-z_])|\s*(?=\}})))+\}}')
_PLAIN_ITEM = re.compile(rf'({_KEY}):[ ](?:"([^"\\\r\n]*)"|([0-9]+\.[0-9]+))')
_BLOCK_FORMAT = re.compile(r"\{[ \t]*\n")
_BLOCK_END = re.compile(r"\}\s*\Z")


class MetadataError(Exception):
    """A metadata block that cannot be read.

    Args:
        message: The problem.
        offset: Its place, counted in characters from the start of the block.
    """

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def read_block(text: str) -> Metadata:
    """Read a block `{...}`.

    If a line break follows the opening brace, the block holds YAML's indented form, otherwise the form in braces.

    Args:
        text: The block with its braces.

    Returns:
        The mapping; empty if the block is.

    Raises:
        MetadataError: The YAML is wrong, too deep, too large, or no mapping.
    """
    if _PLAIN_BLOCK.fullmatch(text):
        items = _PLAIN_ITEM.findall(text)
        block: Metadata = {key: float(number) if number else words for key, words, number in items}
        if len(block) == len(items):
            return block
    body, shift = _body(text)
    value = load_yaml(body, shift)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MetadataError(f"metadata is a mapping ({{key: value}}), not a {type(value).__name__}")
    return value


def read_front_matter(text: str) -> Metadata:
    """Read front matter.

    Args:
        text: The YAML with the `===` lines around it.

    Returns:
        The settings; empty if the YAML is no mapping.

    Raises:
        MetadataError: The YAML is wrong, too deep or too large.
    """
    head = len(text) - len(text.lstrip("="))
    value = load_yaml(text[head:].rstrip("= \t\r\n").lstrip(" \t"), head)
    return value if isinstance(value, dict) else {}


def scalar_span(text: str, *path: str | int) -> tuple[int, int] | None:
    """Find a value in a block.

    Args:
        text: The block with its braces.
        *path: Its key; further keys of mappings and indices of lists for a value within that one.

    Returns:
        Start and end offsets of the value in the block; None if it is absent or not a scalar.
    """
    import yaml

    body, shift = _body(text)
    node: Any = yaml.compose(body, Loader=_loader(fast=False))
    for step in path:
        if isinstance(step, int):
            node = node.value[step] if isinstance(node, yaml.SequenceNode) and step < len(node.value) else None
        else:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            named = (value for name, value in pairs if isinstance(name, yaml.ScalarNode) and name.value == step)
            node = next(named, None)
    if not isinstance(node, yaml.ScalarNode):
        return None
    return node.start_mark.index + shift, node.end_mark.index + shift


def _body(text: str) -> tuple[str, int]:
    opening = _BLOCK_FORMAT.match(text)
    return (_BLOCK_END.sub("", text[opening.end() :]), opening.end()) if opening else (text, 0)


def load_yaml(text: str, shift: int = 0) -> object:
    """Read a YAML document.

    Args:
        text: The document.
        shift: Offset of the document in its block; errors count from the start of the block.

    Returns:
        The value of the document.

    Raises:
        MetadataError: The YAML is wrong, too deep or too large; the error holds the offset of the mistake.
    """
    import yaml

    if len(text) > MAX_SIZE:
        raise MetadataError(f"a metadata block holds at most {MAX_SIZE} characters, this one {len(text)}")
    depth = deepest = 0
    for char in re.findall(r"[\[{}\]]", text):
        depth += 1 if char in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise MetadataError(f"metadata is nested more than {MAX_DEPTH} levels deep")
    try:
        if text.startswith("{"):
            # libyaml recurses in C. In the form in braces, the depth checked above bounds the recursion.
            with suppress(yaml.YAMLError, ValueError, OverflowError):  # it refuses some valid YAML, such as {key:}
                return yaml.load(text, Loader=_loader(fast=True))
        return yaml.load(text, Loader=_loader(fast=False))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = error.problem or error.context or "not readable"
        raise MetadataError(f"metadata is not YAML: {problem}", shift + (mark.index if mark else 0)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise MetadataError(f"metadata is not YAML: {str(error).splitlines()[0]}", shift) from None
    except RecursionError:
        raise MetadataError("metadata is nested too deeply", shift) from None


@cache
def _loader(fast: bool) -> type[yaml.SafeLoader]:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if fast else yaml.SafeLoader

    class Loader(base):
        """YAML 1.2's core schema over PyYAML's parser, with unique keys and no aliases."""

        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Metadata:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} is given twice", key.start_mark
                        )
                    seen.add(key.value)
            return {_key(key): value for key, value in super().construct_mapping(node, deep).items()}

        def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", mark)
            node: yaml.Node = super().compose_node(parent, index)
            return node

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("int", r"[-+]?(?:0b[01]+|0x[0-9a-fA-F]+|0o[0-7]+|[0-9]+)", "-+0123456789"),
        (
            "float",
            r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            "-+.0123456789",
        ),
    ):
        letters = [None] if first == "\0" else list(first.replace("\0", "")) + ([""] if "\0" in first else [])
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), letters)
    Loader.add_constructor("tag:yaml.org,2002:int", _integer)
    Loader.add_constructor("tag:yaml.org,2002:float", _number)
    return Loader


def _key(key: object) -> str:
    """Return a key as a string, as JSON writes it."""
    if key is None or isinstance(key, bool):
        return "null" if key is None else str(key).lower()
    return str(key)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    """Return an integer; as a float if it has more than 53 bits, because all numbers of the reference are floats."""
    digits = str(loader.construct_scalar(node))
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2], 10)
    if base == 10 and len(digits) > MAX_DIGITS:
        return sign * float(digits)
    value = int(digits[2:] if base != 10 else digits, base)
    if value <= MAX_INTEGER:
        return sign * value
    try:
        return sign * float(value)
    except OverflowError:
        return sign * math.inf


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    digits = str(loader.construct_scalar(node)).lower()
    if digits.endswith((".inf", ".nan")):
        return float(digits.replace(".", ""))
    return float(digits)
