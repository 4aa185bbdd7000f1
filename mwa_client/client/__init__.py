"""The Python API: `login`, and the `Client` that it returns."""

from mwa_client.client.client import Client
from mwa_client.client.login import login

__all__ = ["Client", "login"]
