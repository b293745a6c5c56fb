"""What a study asks for: TOML to a validated specification."""
