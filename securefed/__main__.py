"""`python -m securefed`: the `securefed` command."""

from securefed.cli.app import main

main()
