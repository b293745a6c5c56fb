"""Language server for maps in editors: `adapterlab map lsp`."""
