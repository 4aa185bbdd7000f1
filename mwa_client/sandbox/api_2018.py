"""The interface of 2017 and 2018: user name and password, forms in, numbers for states.

Products are fetched from the service itself.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from .api import Api
from .fault_kinds import Point
from .messages import Call, Reply, Request, Target, json_reply, refusal, text_reply
from .service import Job, JobState, JobType, Row

COOKIE = "MWA_JOB_COOKIE"
USER_ID = 7

_CALLS = {
    "/api/login": ("POST", Call.LOGIN),
    "/api/conversion_job": ("POST", Call.SUBMIT),
    "/api/download_vis_job": ("POST", Call.SUBMIT),
    "/api/get_jobs": ("GET", Call.LIST),
    "/api/cancel_job": ("GET", Call.CANCEL),
    "/api/download": ("GET", Call.PRODUCT),
}

_STATES = {
    JobState.QUEUED: 0,
    JobState.PROCESSING: 1,
    JobState.READY: 2,
    JobState.ERROR: 3,
    JobState.EXPIRED: 4,
    JobState.CANCELLED: 5,
}

_TYPES = {JobType.CONVERSION: 0, JobType.VISIBILITIES: 1, JobType.METADATA: 2}

_CONVERSION_KEYS = ("obs_id", "timeres", "freqres", "edgewidth", "conversion")
_DOWNLOAD_KEYS = ("obs_id", "download_type")


class Api2018(Api):
    """The password interface."""

    def speaks(self, request: Request) -> bool:
        """Return whether a request is meant for this interface."""
        return request.path in _CALLS

    def target(self, request: Request) -> Target:
        """Return what a request is about."""
        call = _CALLS[request.path][1]
        given = request.query.get("job_id", "")
        job_id = int(given) if given.isdecimal() else None
        job = self.service.find(job_id)
        obs_id = request.form.get("obs_id") if call is Call.SUBMIT else job.obs_id if job else None
        return Target(request.path, call, job_id, obs_id)

    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""
        method = _CALLS[request.path][0]
        if request.method != method:
            return refusal(405, f"Use {method}").with_header("Allow", method)
        if target.call is Call.LOGIN:
            return self._login(request)
        if request.cookie(COOKIE) not in self.service.sessions:
            return refusal(401, "Not logged in")
        if target.call is Call.SUBMIT:
            return self._submit(request, target)
        if target.call is Call.LIST:
            return self._list(target)
        if target.call is Call.CANCEL:
            return self._cancel(target)
        return self._product(request, target)

    def _login(self, request: Request) -> Reply:
        credentials = _basic_credentials(request)
        token = self.service.login(*credentials) if credentials else None
        if token is None:
            reply = refusal(401, "Wrong user name or password")
            return reply.with_header("WWW-Authenticate", 'Basic realm="practice"')
        return text_reply(200, "").with_header("Set-Cookie", f"{COOKIE}={token}; Path=/; HttpOnly")

    def _submit(self, request: Request, target: Target) -> Reply:
        form = request.form
        conversion = request.path == "/api/conversion_job"
        missing = [key for key in (_CONVERSION_KEYS if conversion else _DOWNLOAD_KEYS) if not form.get(key)]
        if missing:
            return refusal(400, f"Missing: {', '.join(missing)}")
        if not form["obs_id"].isdecimal():
            return refusal(400, f"Invalid obs_id: {form['obs_id']}")
        if conversion:
            job_type, choice, choices = JobType.CONVERSION, "conversion", ("ms", "uvfits")
        else:
            metadata = form["download_type"] == "vis_meta"
            job_type = JobType.METADATA if metadata else JobType.VISIBILITIES
            choice, choices = "download_type", ("vis", "vis_meta")
        if form[choice] not in choices:
            return refusal(400, f"Invalid {choice}: {form[choice]}")
        job = self.service.submit(job_type, form)
        aim = replace(target, job_id=job.id)
        document = self.faults.apply(Point.DOCUMENT, aim, {"job_id": job.id})
        return replace(json_reply(200, document), job_id=job.id)

    def _list(self, target: Target) -> Reply:
        entries: list[Any] = []
        for row in self.rows(target):
            aim = replace(target, job_id=row.job.id, obs_id=row.job.obs_id)
            document = self.faults.apply(Point.DOCUMENT, aim, _row_document(row))
            entries.append({"action": "INSERT", "table": "jobs", "row": document})
        return json_reply(200, self.faults.apply(Point.LISTING, target, entries))

    def _cancel(self, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None:
            return refusal(404, "No such job")
        state = self.service.state(job)
        if state.has_ended:
            return refusal(400, f"Job {job.id} cannot be cancelled: {state.value}")
        self.service.cancel(job.id)
        return json_reply(200, {"job_id": job.id})

    def _product(self, request: Request, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None or request.query.get("file_name") != job.file_name:
            return refusal(404, "No such file")
        return _no_product(job, self.service.state(job)) or self.deliver(request, target, job)


def _row_document(row: Row) -> dict[str, Any]:
    product = None
    if row.product is not None:
        entry = [row.product.name, row.product.size, row.product.sha1]
        product = {"files": [entry if row.product.sha1 is not None else entry[:2]]}
    return {
        "id": row.job.id,
        "job_type": _TYPES[row.job.type],
        "job_state": _STATES[row.state] if isinstance(row.state, JobState) else row.state,
        "user_id": USER_ID,
        "job_params": dict(row.job.params),
        "error_text": row.job.error_text,
        "product": product,
    }


def _no_product(job: Job, state: JobState) -> Reply | None:
    if state.has_product:
        return None
    if state is JobState.EXPIRED:
        return refusal(410, f"The product of job {job.id} has expired")
    return refusal(404, f"Job {job.id} has no product: {state.value}")


def _basic_credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None
