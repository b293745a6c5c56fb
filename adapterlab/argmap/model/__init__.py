"""Claims, arguments and relations of a map."""
