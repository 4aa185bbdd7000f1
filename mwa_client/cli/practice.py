"""A practice run: the sandbox in place of the archive's service (--sandbox)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory

from mwa_client.asvo.service import Credentials, Service
from mwa_client.batch.ledger import PRACTICE, STATE_DIR, Ledger
from mwa_client.cli.context import Show
from mwa_client.cli.settings import Settings
from mwa_client.errors import DirectoryUnusable, SettingsError
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox
from mwa_client.threads import can_start
from mwa_client.transfer.delivered import DeliveryRoots

THREADS = 24
"""Threads for the sandbox and the client: with fewer, the sandbox may leave a connection unanswered."""
DOWNLOAD_RATE = 8e6
"""Bytes a second: slow enough for people to see what happens."""


@contextmanager
def practice_service(settings: Settings, say: Show) -> Iterator[Service]:
    """Run the sandbox; yield the way to reach it.

    Raises
    ------
    DirectoryUnusable
        The directory has real products, or the sandbox's state there is damaged.
    SettingsError
        The system gives this program too few threads.
    """
    if not can_start(THREADS):
        raise SettingsError(
            f"Practising needs some {THREADS} threads, and the system allows this program fewer.",
            "Raise the limit (ulimit -u, or the batch system's), or practise on another machine.",
        )
    say("Practising: small, made-up products; nothing is sent to the real service.")
    with _memory(settings) as memory, _sandbox_of(memory) as (sandbox, account):
        roots = DeliveryRoots((memory / "sandbox_scratch",))
        api = settings.api or ApiVersion.V2
        yield Service(api, sandbox.url, PRACTICE, account, delivery_roots=roots)


def remembers(settings: Settings) -> bool:
    """Say whether the sandbox keeps its jobs in the directory: to list them, nothing is left there."""
    return settings.task.needs_directory or (settings.directory / STATE_DIR).exists()


@contextmanager
def _memory(settings: Settings) -> Iterator[Path]:
    """Yield the folder in which the sandbox keeps its jobs."""
    if not remembers(settings):
        with TemporaryDirectory(prefix="mwa_client-") as folder:
            yield Path(folder)
        return
    # The ledger refuses a directory with real products, so it is opened before the sandbox writes there.
    Ledger(settings.directory, PRACTICE).close()
    # The real path: the directory may be given with ".." or links in it.
    yield Path(os.path.realpath(settings.directory)) / STATE_DIR


@contextmanager
def _sandbox_of(memory: Path) -> Iterator[tuple[Sandbox, Credentials]]:
    # New secrets for each run: other users of this machine can reach the sandbox, and must not be let in.
    account = Credentials("practice", token_urlsafe(16), token_urlsafe(16))
    try:
        sandbox = Sandbox(
            user=account.user,
            password=account.password,
            api_key=account.key,
            state_file=memory / "sandbox.json",
            scratch_folder=memory / "sandbox_scratch",
            rate=DOWNLOAD_RATE,
        )
    except ValueError:
        raise DirectoryUnusable(
            f"{memory / 'sandbox.json'} is damaged.", "Remove it, or choose another directory with --dir."
        ) from None
    with sandbox:
        yield sandbox, account
