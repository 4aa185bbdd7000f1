"""What `--json` promises of each event; the tests of the command and of the README share it."""

FIELDS = {
    "submitted": {"line", "obs_id", "job_id", "found"},
    "state": {"line", "obs_id", "job_id", "state"},
    "estimate": {"waiting", "known", "first_ready", "last_ready", "first_start"},
    "downloading": {"line", "obs_id", "job_id", "file", "bytes", "size"},
    "complete": {
        "line", "obs_id", "job_id", "path", "size", "sha1", "verified", "here", "from_before",
    },
    "then": {"line", "obs_id", "job_id", "state", "status", "log"},
    "error": {"line", "obs_id", "job_id", "message", "remedy"},
    "summary": {
        "complete", "failed", "pending", "submitted", "ready",
        "elsewhere", "unverified", "bytes", "directory",
        "exit_status",
    },
}  # fmt: skip
"""The fields of each event of a run, apart from `event` and `time`. They are a promise: scripts read them."""
STATUS_FIELDS = {
    "row": {
        "line", "obs_id", "job_id", "type", "state", "since", "paths", "size", "bytes", "unverified",
        "estimated_ready", "message", "remedy",
    },
    "status": {
        "directory", "rows", "complete", "failed", "pending", "states", "bytes", "other_rows", "at_work",
        "damaged_lines",
    },
}  # fmt: skip
"""The same of what `--status` alone says."""
