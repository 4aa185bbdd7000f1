"""The page about a batch (``--report``): one file of HTML with its figures inside, no script, no network."""
