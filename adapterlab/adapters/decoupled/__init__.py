"""The theme of decoupling: the direction and the size of a change are learned separately."""
