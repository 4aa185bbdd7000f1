"""An archive becomes a folder of verified files, while it arrives or from the disk."""
