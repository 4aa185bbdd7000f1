"""Options and environment become frozen settings; below this room nothing reads the environment."""

from __future__ import annotations

import argparse
import enum
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from mwa_client.errors import CredentialsMissing, SettingsError
from mwa_client.jobs.keys import ApiVersion
from mwa_client.secrecy import keep_secret
from mwa_client.transfer.delivered import DeliveryRoots, roots_from

HOST = "asvo.mwatelescope.org"
PORTS = {ApiVersion.V2018: 8778, ApiVersion.V1: 443, ApiVersion.V2: 443}
CLIENT_NAME = "mantaray-clientv2.0"
"""What v1 and v2 are told at the login. They may refuse a client that they do not know, and this is the
client whose protocol we speak."""
CALL_TIMEOUT = 60.0
STALL_TIMEOUT = 60.0
MOST_SECONDS = 1e8
DOWNLOADS, MOST_DOWNLOADS = 4, 32
CONNECTIONS, MOST_CONNECTIONS = 8, 32
SANDBOX_POLL = 0.5

ACCOUNT = {"ASVO_USER": "your_name", "ASVO_PASS": "your_password"}
"""The variables that hold the user's account, with examples."""
HOW_TO_SET_KEY = (
    "Your API key is on the profile page of the service's web site, https://asvo.mwatelescope.org:\n"
    "    export MWA_ASVO_API_KEY=your_key"
)
HOW_TO_PRACTISE = "To practise without an account, add --sandbox."
DELIVERY_ROOTS = DeliveryRoots()
NO = ("0", "false", "no", "off")


@dataclass(frozen=True)
class Credentials:
    """A user's account: name and password, or an API key. Its ``repr`` shows neither password nor key."""

    user: str = ""
    password: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        keep_secret(self.password, user=self.user)
        keep_secret(self.key)


@dataclass(frozen=True)
class Service:
    """One way to the service: which interface at which address.

    Attributes
    ----------
    api : ApiVersion
        The interface that it speaks.
    address : str
        Scheme, host and port.
    name : str
        What it is called in the directory's memory: its host, and its port if that is not the usual one.
    is_default : bool
        Nobody has set another address.
    verify : bool or str
        Whether certificates are verified, or the path of the authorities to verify them with.
    call_timeout : float
        Seconds that a call may take, from the connection to the last byte of its answer.
    stall_timeout : float
        Seconds without a byte after which a download's connection is dropped.
    client_name : str
        The client name and version that v1 and v2 are told at the login.
    tokens : Path or None
        Where v2's tokens are kept between runs; None keeps them in memory.
    delivery_roots : DeliveryRoots
        Where deliveries to file systems may be copied from.
    """

    api: ApiVersion
    address: str
    name: str
    credentials: Credentials
    is_default: bool = False
    verify: bool | str = True
    call_timeout: float = CALL_TIMEOUT
    stall_timeout: float = STALL_TIMEOUT
    client_name: str = CLIENT_NAME
    tokens: Path | None = None
    delivery_roots: DeliveryRoots = DELIVERY_ROOTS

    @property
    def sends_password_in_clear(self) -> bool:
        """Whether the password would cross a network unencrypted."""
        parts = urlsplit(self.address)
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        return parts.scheme == "http" and not is_here


class Task(enum.Enum):
    """What the command is to do."""

    RUN = "submit, watch and fetch"
    CHECK = "check the job file"
    SUBMIT = "submit alone"
    LIST = "list the user's jobs"
    FETCH = "fetch jobs that are there"
    CANCEL = "cancel jobs"

    @property
    def needs_rows(self) -> bool:
        """Whether it starts from a job file."""
        return self in (Task.RUN, Task.CHECK, Task.SUBMIT)

    @property
    def needs_directory(self) -> bool:
        """Whether it writes into the download directory."""
        return self in (Task.RUN, Task.SUBMIT, Task.FETCH)


@dataclass(frozen=True)
class Settings:
    """What the user wants of a run.

    Attributes
    ----------
    task : Task
        What to do.
    csv : str or None
        The job file; ``-`` is standard input.
    rows : tuple of str
        Rows given on the command line.
    targets : tuple of str
        The jobs to fetch or cancel: job ids, obs_ids, or ``all``.
    directory : Path
        Where the products go.
    api : ApiVersion or None
        The interface to speak; None: find out.
    sandbox : bool
        Practise against the built-in service.
    once : bool
        One pass: submit what is missing, fetch what is ready, leave.
    allow_resubmit : bool
        Submit even where the same job is there already, and again where it has failed.
    json : bool
        One JSON object a line on standard output, nothing else there.
    error_file : Path or None
        Where the errors are written as a JSON list.
    quiet, verbose : bool
        Show only errors and the summary; show each request.
    parallel : int
        Downloads at a time.
    connections : int
        The most connections to fetch products with, over all downloads.
    poll : float or None
        Seconds between two listings; None: adapt.
    give_up_after : float or None
        Seconds after which to stop with jobs still pending; None: never.
    """

    directory: Path
    task: Task = Task.RUN
    csv: str | None = None
    rows: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    api: ApiVersion | None = None
    sandbox: bool = False
    once: bool = False
    allow_resubmit: bool = False
    json: bool = False
    error_file: Path | None = None
    quiet: bool = False
    verbose: bool = False
    parallel: int = DOWNLOADS
    connections: int = CONNECTIONS
    poll: float | None = None
    give_up_after: float | None = None


def settings_from(options: argparse.Namespace) -> Settings:
    """Check the options' values.

    Raises
    ------
    SettingsError
        A value cannot be used, or two options contradict each other.
    """
    task = _task(options)
    targets = {Task.FETCH: options.download_only, Task.CANCEL: options.cancel}.get(task)
    return Settings(
        task=task,
        csv=None if options.csv is None else str(_path("--csv", options.csv)),
        rows=tuple(options.job or ()),
        targets=() if targets is None else _targets(targets, all_allowed=task is Task.FETCH),
        directory=_path("--dir", options.dir),
        api=_api(options.api),
        sandbox=options.sandbox,
        once=options.once,
        allow_resubmit=options.allow_resubmit,
        json=options.json,
        error_file=None if options.error_file is None else _path("--error-file", options.error_file),
        quiet=options.quiet,
        verbose=options.verbose,
        parallel=_count("--parallel", options.parallel, DOWNLOADS, MOST_DOWNLOADS),
        connections=_count("--connections", options.connections, CONNECTIONS, MOST_CONNECTIONS),
        poll=_seconds("--poll", options.poll, SANDBOX_POLL if options.sandbox else 0.0) or None,
        give_up_after=_seconds("--give-up-after", options.give_up_after, 0.0) or None,
    )


def _task(options: argparse.Namespace) -> Task:
    wanted = {
        Task.CHECK: ("--check", options.check),
        Task.SUBMIT: ("--submit-only", options.submit_only),
        Task.LIST: ("--list-only", options.list_only),
        Task.FETCH: ("--download-only", options.download_only),
        Task.CANCEL: ("--cancel", options.cancel),
    }
    asked = [task for task, (_, is_asked) in wanted.items() if is_asked]
    names = " and ".join(wanted[task][0] for task in asked)
    if len(asked) > 1:
        raise SettingsError(f"{names} do not go together.", "Give one of them.")
    task = asked[0] if asked else Task.RUN
    has_rows = options.csv is not None or bool(options.job)
    if has_rows and not task.needs_rows:
        raise SettingsError(f"{names} takes no job file.", "Leave out --csv and --job.")
    if options.csv is not None and options.job:
        raise SettingsError("--csv and --job do not go together.", "Give one of them.")
    if options.once and not task.needs_directory:
        raise SettingsError(f"--once and {names} do not go together.", "Leave out --once.")
    return task


def _targets(given: list[str], *, all_allowed: bool) -> tuple[str, ...]:
    words = [word for text in given for word in text.replace(",", " ").split() or [""]]
    for word in words:
        if not (re.fullmatch("[0-9]{1,19}", word) or (all_allowed and word == "all")):
            right = "a job id, an obs_id, or all" if all_allowed else "a job id"
            # Most likely the empty one is a variable of a script that was never set.
            raise SettingsError(f"{word or 'An empty word'} is not a job.", f"It must be {right}.")
    return tuple(dict.fromkeys(words))


def _api(value: str | None) -> ApiVersion | None:
    try:
        return None if value is None else ApiVersion(value)
    except ValueError:
        raise SettingsError(f"--api={value} is not an interface.", "It must be 2018, v1 or v2.") from None


def services_from(environment: Mapping[str, str], api: ApiVersion | None = None) -> tuple[Service, ...]:
    """Read from the environment which service to talk to: the ways to try, in order.

    Parameters
    ----------
    environment : mapping
        ``MWA_ASVO_API_KEY``, or ``ASVO_USER`` and ``ASVO_PASS``; optionally ``MWA_ASVO_HOST`` or
        ``ASVO_HOST`` (host or URL), ``MWA_ASVO_PORT`` or ``ASVO_PORT``, ``MWA_ASVO_HTTPS`` (0: plain HTTP),
        ``SSL_VERIFY`` (0 switches the check of certificates off; a path names a bundle of authorities),
        ``MWA_ASVO_API_TIMEOUT`` (seconds), ``MWA_ASVO_CLIENT`` (client name and version) and
        ``MWA_ASVO_SCRATCH_ROOTS`` (folders that deliveries are found below, separated by colons).
    api : ApiVersion, optional
        The interface to speak. Otherwise a key means today's service, v2 before v1; user name and password
        mean that of 2018, and v2 where the server knows nothing of 2018's login, or nobody answers at the
        service's address of 2018.

    Raises
    ------
    CredentialsMissing
        There are none for the interface.
    SettingsError
        A variable's value cannot be used.
    """
    if api is not None:
        apis = [api]
    elif environment.get("MWA_ASVO_API_KEY"):
        apis = [ApiVersion.V2, ApiVersion.V1]
    else:
        apis = [ApiVersion.V2018]
    services = [_service(environment, each) for each in apis]
    if api is None and services[0].api is ApiVersion.V2018:
        services.append(_todays(environment, services[0]))
    return tuple(services)


def _todays(environment: Mapping[str, str], of_2018: Service) -> Service:
    """Return where v2 is to be tried with an account of 2018: at another server than the usual, there too."""
    if of_2018.is_default or environment.get("MWA_ASVO_HOST"):
        return _service(environment, ApiVersion.V2)
    there = {**environment, "MWA_ASVO_HOST": of_2018.address, "MWA_ASVO_PORT": ""}
    return replace(_service(there, ApiVersion.V2), name=of_2018.name)


def _service(environment: Mapping[str, str], api: ApiVersion) -> Service:
    family = "ASVO" if api is ApiVersion.V2018 else "MWA_ASVO"
    given = {name: environment.get(f"{family}_{name}", "") for name in ("HOST", "PORT")}
    is_plain = family == "MWA_ASVO" and environment.get("MWA_ASVO_HTTPS", "").strip().lower() in NO
    address = address_of(given["HOST"], given["PORT"], api, scheme="http" if is_plain else "https")
    parts = urlsplit(address)
    is_default = parts.hostname == HOST and parts.port == PORTS[api]
    timeout = environment.get("MWA_ASVO_API_TIMEOUT", "")
    return Service(
        api=api,
        address=address,
        name=parts.netloc.removesuffix(f":{PORTS[api]}"),
        credentials=_credentials(environment, api),
        is_default=is_default,
        verify=_verify(environment.get("SSL_VERIFY", "")),
        call_timeout=_seconds("MWA_ASVO_API_TIMEOUT", timeout, CALL_TIMEOUT),
        client_name=_client_name(environment.get("MWA_ASVO_CLIENT", "").strip()),
        tokens=_tokens_path(environment, parts.netloc, is_default),
        delivery_roots=_delivery_roots(environment),
    )


def address_of(host: str, port: str, api: ApiVersion = ApiVersion.V2018, *, scheme: str = "https") -> str:
    """Return the address that a host (or URL) and a port mean: ``https://host:8778``.

    Raises
    ------
    SettingsError
        They mean none.
    """
    family = "ASVO" if api is ApiVersion.V2018 else "MWA_ASVO"
    host, port = host.strip() or HOST, port.strip()
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise SettingsError(f"{family}_PORT={port} is not a port.", "It must be a number from 1 to 65535.")
    if "@" in host:
        raise SettingsError(
            f"{family}_HOST must not hold a user name or password.",
            "ASVO_USER and ASVO_PASS are for them, or MWA_ASVO_API_KEY.",
        )
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{host}")
        # A name in other letters has one in plain letters, by which it is called.
        name = (parts.hostname or "").encode("idna").decode("ascii")
        own_port = parts.port
    except ValueError:
        name, own_port, parts = "", None, urlsplit("")
    # What some libraries leave out and some read as a slash is in no address.
    is_odd = re.search(r"[\\\x00-\x20\x7f]", host) or not re.fullmatch(
        r"[A-Za-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", name
    )
    is_odd = is_odd or ("[" in host) != (":" in name)
    is_plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not is_plain or is_odd:
        raise SettingsError(
            f"{family}_HOST={host} is not an address.",
            f"It must be a host name, or a URL without a path: {HOST}, https://{HOST}:{PORTS[api]}.",
        )
    shown = f"[{name}]" if ":" in name else name
    standard = 80 if parts.scheme == "http" else PORTS[api]
    return f"{parts.scheme}://{shown}:{own_port or int(port or standard)}"


def _credentials(environment: Mapping[str, str], api: ApiVersion) -> Credentials:
    key = environment.get("MWA_ASVO_API_KEY", "").strip()
    if api is not ApiVersion.V2018 and key:
        _check_text("MWA_ASVO_API_KEY", key)
        return Credentials(key=key)
    missing = [name for name in ACCOUNT if not environment.get(name)]
    if api is ApiVersion.V1 or (api is ApiVersion.V2 and missing):
        raise CredentialsMissing(
            f"No credentials: MWA_ASVO_API_KEY is not set, and the {api.value} interface wants it.",
            f"{HOW_TO_SET_KEY}\n{HOW_TO_PRACTISE}",
        )
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        exports = " ".join(f"{name}={ACCOUNT[name]}" for name in missing)
        why = "and the 2018 interface wants them" if key else "nor is MWA_ASVO_API_KEY"
        raise CredentialsMissing(
            f"No credentials: {' and '.join(missing)} {verb} not set, {why}.",
            f"{HOW_TO_SET_KEY}\nFor the service of 2018, your account there:\n    export {exports}\n"
            f"{HOW_TO_PRACTISE}",
        )
    for name in ACCOUNT:
        _check_text(name, environment[name])
    user, password = (environment[name] for name in ACCOUNT)
    if ":" in user:
        raise SettingsError("ASVO_USER must not hold a colon.", "Give the user name alone.")
    return Credentials(user, password)


def _check_text(name: str, value: str) -> None:
    """Refuse what can be no password, without a word of it: it would only come back as a wrong one."""
    try:
        value.encode("utf-8")
    except UnicodeError:
        raise SettingsError(
            f"{name} has a character in it that is not UTF-8.",
            "Set it again, from a terminal that uses UTF-8.",
        ) from None
    if re.search(r"[\x00-\x1f\x7f]", value):
        where = "at its end" if not re.search(r"[\x00-\x1f\x7f]", value.rstrip("\r\n")) else "in it"
        raise SettingsError(
            f"{name} has a line break or another control character {where}.",
            f'Set it without; from a file: export {name}="$(cat FILE)"',
        )


def _tokens_path(environment: Mapping[str, str], host: str, is_default: bool) -> Path | None:
    """Return where v2's tokens are kept: for the default host the file that the other clients share."""
    home = environment.get("HOME")
    if not home:
        return None
    # The shared file names no host, and tokens of one server are refused by another.
    name = "tokens.json" if is_default else f"tokens-{re.sub('[^A-Za-z0-9.-]', '_', host)}.json"
    return Path(home) / ".mwa-asvo" / name


def _delivery_roots(environment: Mapping[str, str]) -> DeliveryRoots:
    words = environment.get("MWA_ASVO_SCRATCH_ROOTS", "")
    try:
        return roots_from(words, environment.get("HOME"), _home_by_the_system())
    except ValueError as error:
        raise SettingsError(
            f"MWA_ASVO_SCRATCH_ROOTS={words}: {error} cannot be a folder of deliveries.",
            "It must be absolute paths, separated by colons: /astro:/mnt/scratch.",
        ) from None


def _home_by_the_system() -> str | None:
    """Return the user's home whatever HOME says: cron and containers leave it out, or change it."""
    import pwd  # Seldom needed.

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None


def _client_name(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or ":" in value:
        raise SettingsError(
            f"MWA_ASVO_CLIENT={value} is not the name of a client.", f"It must be one like {CLIENT_NAME}."
        )
    return value or CLIENT_NAME


def _verify(value: str) -> bool | str:
    word = value.strip().lower()
    if word in ("", "1", "true", "yes", "on"):
        return True
    if word in NO:
        return False
    if Path(value.strip()).exists():
        return value.strip()
    raise SettingsError(f"SSL_VERIFY={value}: no such file.", "It must be 1, 0 or the path of a .pem file.")


def _path(name: str, value: str) -> Path:
    if not value:
        raise SettingsError(f"{name} is empty.", "Give a path, or leave the option out.")
    try:
        return Path(value).expanduser()  # Most shells leave the ~ of --dir=~/data as it is.
    except RuntimeError:
        raise SettingsError(f"{name}={value}: there is no such user.") from None


def _seconds(name: str, value: str | None, default: float) -> float:
    if value is None or not value.strip():
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MOST_SECONDS:
        raise SettingsError(f"{name}={value} is not a time.", "It must be a number of seconds above 0.")
    return seconds


def _count(name: str, value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not (re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= most):
        raise SettingsError(f"{name}={value} cannot be.", f"It must be a whole number from 1 to {most}.")
    return int(value)
