"""Studies of adapters: a study is run as trials, a ledger records them, and the analysis compares the contestants."""
