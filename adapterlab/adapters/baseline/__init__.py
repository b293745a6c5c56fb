"""Reference methods that the other methods are compared with."""
