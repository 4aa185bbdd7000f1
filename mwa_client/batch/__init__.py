"""Many jobs at once: submitted, watched, fetched and remembered, row by row.

A row goes through these files: `batch` is the loop; `recalling` takes up what earlier runs have left;
`watching` finds the job in a listing, or has `submitting` make one, and sees it become ready; `fetching`
brings its product. `updates` changes the row, records that in the ledger and tells it; `rows` says where it
stands.
"""
