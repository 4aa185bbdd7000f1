"""Sizes and times as people say them."""

from __future__ import annotations


def size_in_words(size: int | None) -> str:
    """Return a number of bytes: ``22.5 MB``."""
    if size is None:
        return "size not known"
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000.0
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a number of seconds in the two units that matter: ``3 d 4 h``."""
    minutes = max(int(seconds), 0) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
