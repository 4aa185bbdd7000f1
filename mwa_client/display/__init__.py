"""What people and programs see of a run: lines, bars, JSON, listings."""
