"""What part a claim plays in its map."""

from __future__ import annotations

from adapterlab.argmap.model.map import Map


def assign_roles(the_map: Map) -> None:
    """Set each claim's role.

    A thesis is pointed at or concluded and bears on nothing itself; a conclusion is drawn by an argument; a premise
    stands in one; any other is a claim.
    """
    premises = {title for argument in the_map.arguments.values() for title in argument.premises}
    steps = [step for argument in the_map.arguments.values() for step in argument.steps]
    concluded = {step.conclusion for step in steps}
    # A step's conclusion carries the next step, which is as good as being a premise.
    carrying = {step.conclusion for a in the_map.arguments.values() for step in a.steps[:-1]} | premises
    # A contradiction is mutual: it makes no claim the other's thesis.
    relations = [r for r in the_map.relations if r.kind != "contradictory"]
    bearing = {r.source.title for r in relations if r.source.kind == "claim"}
    pointed = {r.target.title for r in relations if r.target.kind == "claim"}
    borne_on, bearing_on = pointed | concluded, bearing | carrying
    for title, claim in the_map.claims.items():
        if title in borne_on and title not in bearing_on:
            claim.role = "thesis"
        elif title in concluded:
            claim.role = "conclusion"
        elif title in premises:
            claim.role = "premise"
        else:
            claim.role = "claim"
