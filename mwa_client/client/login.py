"""Log in to the service, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mwa_client.client.arguments import text_in
from mwa_client.client.client import Client
from mwa_client.client.telling import says_it_in_python_words, warn
from mwa_client.errors import SettingsError

# The rest is imported where it is needed: `import mwa_client` must not wait for it.
if TYPE_CHECKING:
    from mwa_client.jobs.keys import ApiVersion


@says_it_in_python_words
def login(
    user: str | None = None,
    password: str | None = None,
    *,
    key: str | None = None,
    api: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Client:
    """Log in to the service.

    Parameters
    ----------
    user, password : str, optional
        An account of 2018; default is ``ASVO_USER`` and ``ASVO_PASS`` of the environment.
    key : str, optional
        The API key for today's service; default is ``MWA_ASVO_API_KEY``, or the file ``~/.mwa-asvo/key``.
    api : str, optional
        The interface to use, ``2018``, ``v1`` or ``v2``; default is the one that answers.
    host : str, optional
        Host name or URL; default is ``MWA_ASVO_HOST`` (``ASVO_HOST`` for 2018), or the service's address.
    port : int, optional
        Default is ``MWA_ASVO_PORT`` (``ASVO_PORT``), or the service's port.

    Raises
    ------
    CredentialsMissing
        Neither the arguments nor the environment have a key, or a user name and password.
    SettingsError
        An argument or a variable has a value that cannot be used, or others can read the key's file.
    LoginRefused
        The service does not accept the account.
    ServiceError
        The service refuses the call or does not answer.
    """
    from mwa_client.asvo.key_file import with_key_of_file
    from mwa_client.asvo.service import risks_of
    from mwa_client.asvo.variables import services_from

    user, password, key, host = (
        text_in(name, value)
        for name, value in {"user": user, "password": password, "key": key, "host": host}.items()
    )
    environment = dict(os.environ)
    if user is not None:
        # An account that is given counts more than a key that happens to be in the environment.
        environment.pop("MWA_ASVO_API_KEY", None)
    given = {"ASVO_USER": user, "ASVO_PASS": password, "MWA_ASVO_API_KEY": key}
    for family in ("ASVO", "MWA_ASVO"):
        given |= {f"{family}_HOST": host, f"{family}_PORT": None if port is None else str(port)}
    environment |= {name: value for name, value in given.items() if value is not None}
    if user is None:
        environment = dict(with_key_of_file(environment))
    version = None if api is None else _version(str(api))
    try:
        services = services_from(environment, version)
    except SettingsError as error:
        # Who has given an argument has set no variable.
        names = {f"{family}_HOST=": "host=" for family in ("ASVO", "MWA_ASVO") if host is not None}
        names |= {f"{family}_PORT=": "port=" for family in ("ASVO", "MWA_ASVO") if port is not None}
        error.reword(lambda text: _renamed(text, names))
        raise
    warn(risks_of(services))
    client = Client(*services)
    client.login()
    return client


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text with names replaced, the longer ones first."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def _version(api: str) -> ApiVersion:
    from mwa_client.jobs.keys import ApiVersion

    try:
        return ApiVersion(api)
    except ValueError:
        known = ", ".join(each.value for each in ApiVersion)
        raise SettingsError(
            f"api={api!r} is not an interface of the service.", f"It must be one of: {known}."
        ) from None
