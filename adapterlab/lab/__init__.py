"""Contests on equal terms: a study becomes trials, trials a ledger, the ledger a scoreboard."""
