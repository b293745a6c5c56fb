"""`python -m adapterlab`."""

from adapterlab.cli import main

main()
