"""The command: options and environment in, exit status out."""
