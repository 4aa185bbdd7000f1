"""Whose words a row is written in: those of 2018, those of today's service, or both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mwa_client.jobs.key_table import KEY_BY_NAME, find_key
from mwa_client.jobs.keys import ApiVersion, Required
from mwa_client.jobs.request import CONVERSION_KEYS, NOT_PART_OF_THE_PRODUCT

_MEANT_TO_FLAG = "no_flag_dc"
"""The one key that means something else where a row of 2018 leaves it out."""


def names_of(names: Iterable[str], words_of: ApiVersion) -> list[str]:
    """Return those names of keys that belong to 2018 alone, or to today's interfaces alone."""
    found = ((name, find_key(name)) for name in names)
    return [
        name
        for name, key in found
        if key is not None and key.name not in NOT_PART_OF_THE_PRODUCT and key.interface_of(name) is words_of
    ]


def words_to_suggest(names: Iterable[str], api: ApiVersion) -> ApiVersion | None:
    """Return whose words are suggested for the misspelt names of a row, by the names that are right.

    Parameters
    ----------
    names : iterable of str
        All names in the row.
    api : ApiVersion
        The interface that the row is checked for.

    Returns
    -------
    ApiVersion or None
        `ApiVersion.V2018` or `ApiVersion.V2`; None where either may be meant.
    """
    names = list(names)
    if names_of(names, ApiVersion.V2018):
        return ApiVersion.V2 if _todays_conversion_names(names) else ApiVersion.V2018
    return None if api is ApiVersion.V2018 and not names_of(names, ApiVersion.V2) else ApiVersion.V2


def written_for(names: Mapping[str, str], guessed_names: Mapping[str, str], api: ApiVersion) -> ApiVersion:
    """Return the interface whose words a row uses; words that both have count as those of `api`.

    A misspelt word never makes a row one of 2018: nobody knows what it was meant to be.

    Parameters
    ----------
    names, guessed_names : mapping of str to str
        For each key in the row, by today's name, the name that the row uses, or may have been meant to use.
    api : ApiVersion
        The interface that the row is checked for.
    """
    if names_of(names.values(), ApiVersion.V2018):
        return ApiVersion.V2018
    is_todays = names_of([*names.values(), *guessed_names.values()], ApiVersion.V2)
    return ApiVersion.V2018 if api is ApiVersion.V2018 and not is_todays else ApiVersion.V2


def what_made_it_2018(names: Mapping[str, str]) -> str:
    """Say which words of a row are those of 2018, and what today's words for them are.

    Empty where nobody wonders: the row has words of 2018 alone, and those that every conversion of 2018 had.
    """
    of_2018 = names_of(names.values(), ApiVersion.V2018)
    is_usual = any(KEY_BY_NAME[name].required is Required.IN_2018 for name in of_2018)
    if not of_2018 or (is_usual and not _todays_conversion_names(names.values())):
        return ""
    if len(of_2018) == 1:
        return f"{of_2018[0]}: a word of 2018 (today: {_today(of_2018[0])})"
    todays = ", ".join(f"{_today(name)} for {name}" for name in of_2018)
    return f"{', '.join(of_2018)}: words of 2018 (today: {todays})"


def _today(name: str) -> str:
    key = KEY_BY_NAME[name]
    return "none" if key.is_only_in_2018 else key.name


def meaning_of_2018(names: Mapping[str, str]) -> str:
    """Say what it means for a row that it counts as one of 2018."""
    flags = "" if _MEANT_TO_FLAG in names else ": without flagdcchannels, the centre channels are not flagged"
    return f"the row is read as one of 2018{flags}"


def _todays_conversion_names(names: Iterable[str]) -> list[str]:
    # Rows in the words of 2018 may say where to deliver to: that came years before today's other words.
    return [name for name in names_of(names, ApiVersion.V2) if KEY_BY_NAME[name].name in CONVERSION_KEYS]
