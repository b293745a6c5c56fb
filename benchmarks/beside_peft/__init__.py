"""Comparison of one training step of every method with PEFT's, on a model of two Llama layers."""
