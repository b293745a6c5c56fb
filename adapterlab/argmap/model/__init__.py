"""Claims, arguments and relations: the map that a text describes."""
