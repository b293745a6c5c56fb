r"""Roles of claims: thesis, conclusion, premise or claim.

>>> from adapterlab.argmap.model.build import parse
>>> {title: claim.role for title, claim in parse("[Wet]: It is wet.\n  + [Rain]: It rains.").claims.items()}
{'Wet': 'thesis', 'Rain': 'claim'}
"""

from __future__ import annotations

from adapterlab.argmap.model.map import Map


def assign_roles(the_map: Map) -> None:
    """Set the role of each claim.

    A thesis is the target of a relation or the conclusion of an argument, and bears on no other claim. Of the others, a
    conclusion is concluded by an argument, a premise is a premise of one, and any other is a claim.

    Args:
        the_map: A map whose arguments and relations are complete.
    """
    premises = {title for argument in the_map.arguments.values() for title in argument.premises}
    steps = [step for argument in the_map.arguments.values() for step in argument.steps]
    concluded = {step.conclusion for step in steps}
    # The conclusion of a step is used in the next step, like a premise.
    used = {step.conclusion for a in the_map.arguments.values() for step in a.steps[:-1]} | premises
    # A contradiction is mutual: it makes neither claim the other's thesis.
    relations = [r for r in the_map.relations if r.kind != "contradictory"]
    sources = {r.source.title for r in relations if r.source.kind == "claim"} | used
    targets = {r.target.title for r in relations if r.target.kind == "claim"} | concluded
    for title, claim in the_map.claims.items():
        if title in targets and title not in sources:
            claim.role = "thesis"
        elif title in concluded:
            claim.role = "conclusion"
        elif title in premises:
            claim.role = "premise"
        else:
            claim.role = "claim"
