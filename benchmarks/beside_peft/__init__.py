"""One training step of every method beside PEFT's, on a 2-layer Llama shape."""
