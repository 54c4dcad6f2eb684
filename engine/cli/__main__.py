"""`python -m engine.cli`, the same as `sentinel`."""

from engine.cli import main

main()
