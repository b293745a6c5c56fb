"""Data of an argument map after a study: its tree, its claims with their evidence, and its credences by relevance.

>>> slug("DoRA Beats LoRA (r = 8)")
'dora-beats-lora-r-8'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterlab.argmap.model.map import Claim, Map
from adapterlab.argmap.scoring.semantics import BAYES
from adapterlab.argmap.tools.layout import Box, lay_out
from adapterlab.report.data.numbers import effect, rounded
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.pool import Pooled
from adapterlab.verdict.two_instruments import beside

Json = dict[str, Any]
"""Plain data by key."""
EXACT = 12
"""Significant digits of credences, which are compared with the scorer's."""


def slug(title: str) -> str:
    """Return a title as a part of an address.

    Args:
        title: The title.
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "untitled"


def map_data(judgement: Judgement) -> Json:
    """Return a map before and after a study.

    Args:
        judgement: The verdicts on the map.

    Returns:
        `semantics`, `theses`, `nodes` of the tree, `claims` by title, and `relevance` with the credence of every claim at
        each of its `grid`, in the order of `claims`; without `relevance` if the map is no Bayesian network.
    """
    the_map = judgement.map
    claims = _claims(judgement)
    return {
        "semantics": judgement.semantics,
        "theses": list(judgement.theses),
        "nodes": list(_nodes(the_map)),
        "claims": claims,
        "relevance": _relevance(judgement, list(claims)),
    }


def _relevance(judgement: Judgement, titles: list[str]) -> Json | None:
    if not judgement.curve:
        return None
    scored = {judgement.relevance: judgement.after[BAYES], **dict(judgement.curve)}
    grid = sorted(scored)
    return {
        "own": judgement.relevance,
        "grid": grid,
        "credences": [[rounded(scored[at].claims[title].credence, EXACT) for title in titles] for at in grid],
    }


def _claims(judgement: Judgement) -> dict[str, Json]:
    the_map = judgement.map
    before, after = judgement.before[judgement.semantics], judgement.after[judgement.semantics]
    sections = {section.id: section.title for section in the_map.all_sections}
    verdicts = {verdict.claim: verdict for verdict in judgement.verdicts}
    instruments = {each.claim: each for each in beside(judgement)}
    found: dict[str, Json] = {}
    slugs: set[str] = set()
    for title, claim in the_map.claims.items():
        own = next(name for name in _numbered(slug(title)) if name not in slugs)
        slugs.add(own)
        both = instruments.get(title)
        found[title] = {
            "slug": own,
            "role": claim.role,
            "text": claim.text,
            "reason": _reason(claim),
            "links": [list(link) for mention in claim.mentions for link in mention.links],
            "section": sections.get(claim.section or "", ""),
            "stated": claim.credence,
            "before": rounded(before.claims[title].credence, EXACT),
            "after": rounded(after.claims[title].credence, EXACT),
            "test": _test(verdicts[title]) if title in verdicts else None,
            "geometry": None if both is None else _test(both.geometry) | {"sentence": both.sentence},
            "evidence": _evidence(judgement.pooled[title]) if title in judgement.pooled else None,
        }
    return found


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _reason(claim: Claim) -> str:
    return str(claim.data.get("reason") or "")


def _test(verdict: Verdict) -> Json:
    if verdict.untested:
        return {"parts": [{"says": part.sentence()} for part in verdict.test.parts], "untested": verdict.untested}
    return {
        "parts": [
            {
                "says": part.test.sentence(),
                "effect": effect(part.effect),
                "same": None if part.same is None else rounded(part.same),
                "pairs": [[p.task, p.seed, rounded(p.difference), list(p.trials)] for p in part.pairs],
            }
            for part in verdict.parts
        ],
        "untested": "",
        "factor": rounded(verdict.bayes_factor),
        "stated": verdict.before,
        "credence": rounded(verdict.after),
    }


def _evidence(pooled: Pooled) -> Json:
    meta = pooled.others.meta
    interval = [None, None] if meta is None or meta.df <= 0 else [rounded(limit) for limit in meta.interval]
    return {
        "effects": [
            [each.source or "this study", each.label, each.task, rounded(each.value), rounded(each.variance**0.5)]
            for each in (*pooled.mine, *pooled.others.effects)
        ],
        "mean": None if meta is None else rounded(meta.mean),
        "interval": interval,
        "i2": None if meta is None else rounded(meta.i2),
        "counted": list(pooled.counted),
        "factors": {
            "study": None if pooled.own is None else rounded(pooled.own),
            "tables": rounded(pooled.others.factor),
            "together": rounded(pooled.together),
        },
        "contradiction": pooled.contradiction,
    }


def _nodes(the_map: Map) -> Iterator[Json]:
    """Yield the nodes of the map's tree, parents first; what bears on a thesis hangs on the section that it stands in."""
    sections = {section.id: section.title for section in the_map.all_sections}
    boxes = lay_out(the_map).boxes
    numbers = {id(box): number for number, box in enumerate(boxes)}
    theses = set(the_map.theses)
    none: tuple[str, Box | None] = ("", None)
    parents: dict[int, tuple[str, Box | None]] = {}
    for box in boxes:
        parents.update({id(child): (kind, box) for kind, child in box.children})
    groups: dict[tuple[int, str], str] = {}
    for box in boxes:
        sign, parent = parents.get(id(box), none)
        above = None if parent is None else f"n{numbers[id(parent)]}"
        if parent is not None and parent.kind == "claim" and parent.title in theses:
            section = sections.get(
                (the_map.claims if box.kind == "claim" else the_map.arguments)[box.title].section or ""
            )
            if section:
                key = numbers[id(parent)], section
                if key not in groups:
                    groups[key] = f"s{len(groups)}"
                    yield {"id": groups[key], "kind": "section", "title": section, "parent": above, "sign": "premise"}
                above = groups[key]
        yield {
            "id": f"n{numbers[id(box)]}",
            "kind": "thesis" if box.kind == "claim" and box.title in theses else box.kind,
            "title": box.title,
            "parent": above,
            "sign": sign,
            **_inference(box),
            **({"also": _also(box, numbers)} if box.cross_links else {}),
        }


def _inference(box: Box) -> Mapping[str, Any]:
    if box.argument is None:
        return {}
    return {"argument": box.argument.title, "inference": box.argument.inference}


def _also(box: Box, numbers: Mapping[int, int]) -> list[list[str]]:
    """Return what bears on a box from elsewhere in the tree."""
    return [[sign, f"n{numbers[id(other)]}"] for sign, other in box.cross_links]
