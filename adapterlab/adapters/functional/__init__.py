"""The theme of function: the joint function of several layers is adapted, or one that depends on the input."""
