"""Training by transformers' Trainer and by TRL: checkpoints, the method's own updates, the optimizer, the model card."""
