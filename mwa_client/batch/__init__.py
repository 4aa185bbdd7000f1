"""Many jobs at once: submitted, watched, fetched and remembered, row by row."""
