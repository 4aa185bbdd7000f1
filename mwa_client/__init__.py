"""Batch client for the archive of the Murchison Widefield Array (MWA ASVO).

The whole of a job file, as the command does it:

>>> import mwa_client
>>> client = mwa_client.login()  # MWA_ASVO_API_KEY, ~/.mwa-asvo/key, or ASVO_USER and ASVO_PASS
>>> summary = client.run("jobs.csv", "data", progress=True)  # returns when all is done
>>> for failure in summary.failed:
...     print(failure.row.obs_id, failure.error)

Rows can be given as text, as mappings, or as a pandas table:

>>> row = {"obs_id": 1191828584, "job_type": "d", "download_type": "vis"}
>>> summary = client.run([row], "data")
>>> summary.exit_status == 0  # complete and verified
True

One job, step by step:

>>> job_id = client.submit(row)
>>> client.jobs()[job_id].obs_id
1191828584
>>> client.wait(job_id).label
'Ready for Download'
>>> files = client.download(job_id, "data")
>>> files[0].verified
True
>>> client.close()
"""

from mwa_client.client import Client, login
from mwa_client.errors import (
    JobFailed,
    MwaClientError,
    MwaClientWarning,
    NotFinished,
    ServiceRefused,
    SettingsError,
)

__version__ = "0.1.0"
__all__ = [
    "Client",
    "JobFailed",
    "MwaClientError",
    "MwaClientWarning",
    "NotFinished",
    "ServiceRefused",
    "SettingsError",
    "__version__",
    "login",
]
