"""One protocol for each kind of site that an adapter can be attached to."""
