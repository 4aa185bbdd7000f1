"""What the clients of every interface have, for the tests of the practice service."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

import requests

from mwa_client.sandbox import Sandbox

TIMEOUT = 20.0
C = TypeVar("C", bound="PracticeClient")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_500_000_000.0

    def __call__(self) -> float:
        return self.now


class PracticeClient:
    """A session with the practice service."""

    def __init__(self, sandbox: Sandbox, *, login: bool = True) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        if login:
            assert self.login().status_code == 200

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.sandbox.url + path, timeout=TIMEOUT, **options)

    def login(self) -> requests.Response:
        raise NotImplementedError
