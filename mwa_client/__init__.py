"""Batch client for the archive of the Murchison Widefield Array (MWA ASVO).

The whole of a job file, as the command does it::

    import mwa_client

    client = mwa_client.login()                       # MWA_ASVO_API_KEY, or ASVO_USER and ASVO_PASS
    summary = client.run("jobs.csv", "/data/mwa")     # blocks until every row is complete or has failed
    for failure in summary.failed:
        print(failure.row.obs_id, failure.error)

One job, step by step::

    job_id = client.submit({"obs_id": 1191828584, "job_type": "d", "download_type": "vis"})
    print(client.jobs()[job_id].label)                # "Queued"
    files = client.download(job_id, "/data/mwa")      # once it is "Ready for Download"
"""

from mwa_client.client import Client, login
from mwa_client.errors import JobFailed, MwaClientError, NotFinished, ServiceRefused, SettingsError

__version__ = "0.1.0"
__all__ = [
    "Client",
    "JobFailed",
    "MwaClientError",
    "NotFinished",
    "ServiceRefused",
    "SettingsError",
    "__version__",
    "login",
]
