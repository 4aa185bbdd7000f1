"""The interface since the end of 2018: an API key and a session cookie, forms in, words for states.

Products are fetched from the object store, or stand in a folder.
"""

from __future__ import annotations

from typing import Any

from .api import USER_ID
from .interfaces import Interface
from .jobs import Job, JobType, Row
from .keys import ORDERS_V1, Mistake, from_form, mistakes
from .messages import Answer, Call, Reply, Request, Target, json_reply, text_reply
from .today import GROUP, METADATA_WORDS, TodaysApi, moment, state_word

COOKIE = "MWA_ASVO_SESSION"

_ORDERS = {f"/api/{path}": order for path, order in ORDERS_V1.items()}
_CALLS = {
    "/api/api_login": ("POST", Call.LOGIN),
    "/api/get_jobs": ("GET", Call.LIST),
    "/api/cancel_job": ("GET", Call.CANCEL),
    **dict.fromkeys(_ORDERS, ("POST", Call.SUBMIT)),
}


class ApiV1(TodaysApi):
    """The interface with an API key and a cookie."""

    interface = Interface.V1
    cookie = COOKIE

    def speaks(self, request: Request) -> bool:
        """Return whether a request is meant for this interface."""
        return request.path in _CALLS

    def target(self, request: Request) -> Target:
        """Return what a request is about."""
        call = _CALLS[request.path][1]
        given = request.query.get("job_id", "")
        job_id = int(given) if given.isdecimal() else None
        job = self.service.find(job_id)
        obs_id = job.obs_id if job else None
        return Target(
            request.path,
            call,
            job_id,
            self.asked_obs_id(request.form) if call is Call.SUBMIT else obs_id,
            self.interface,
            client=request.credentials[0] if call is Call.LOGIN and request.credentials else None,
            delivery=_delivery(request) if call is Call.SUBMIT else None,
        )

    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""
        method = _CALLS[request.path][0]
        if request.method != method:
            return self.refuse(405, f"Use {method}", v1=None).with_header("Allow", method)
        if target.call is Call.LOGIN:
            return self._login(request)
        if request.cookie(COOKIE) not in self.service.sessions:
            return self.refuse(401, "Not logged in", v1=None)
        if target.call is Call.SUBMIT:
            return self._submit(request, target)
        if target.call is Call.LIST:
            return json_reply(200, self.envelopes(target))
        return self._cancel(request, target)

    def _login(self, request: Request) -> Reply:
        client, key = request.credentials or ("", "")
        if not client or not self.service.knows_key(key):
            reply = self.refuse(401, "Invalid API key", v1=None)
            return reply.with_header("WWW-Authenticate", 'Basic realm="practice"')
        return text_reply(200, "").with_cookie(COOKIE, self.service.open_session())

    def _submit(self, request: Request, target: Target) -> Reply:
        order, form = _ORDERS[request.path], request.form
        values = from_form(order.keys, form)
        found = next(mistakes(order.keys, values), None)
        if found is not None:
            return self.refuse(400, _complaint(found))
        return self.place(target, order, form, again=bool(values.get("allow_resubmit")))

    def accepted(self, job: Job) -> dict[str, Any]:
        """Return what is said of a job that was taken."""
        return {"job_id": job.id}

    def already_there(self, job: Job) -> Answer:
        """Return what is said when the job is there already."""
        text = "Job already queued, processing or complete"
        return Answer(400, {"error": text, "error_code": 2, "job_id": job.id})

    def _cancel(self, request: Request, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None:
            return self.no_such_job(request.query.get("job_id"))
        state = self.service.state(job)
        if not state.is_under_way:
            return text_reply(400, f"Job {job.id} cannot be cancelled: it is {state_word(state)}")
        self.service.cancel(job.id)
        return json_reply(200, {"job_id": job.id})

    def document(self, row: Row) -> dict[str, Any]:
        """Return the JSON object that stands for a job."""
        times = self.service.times(row.job)
        return {
            "job_type": row.job.type.number,
            "job_state": state_word(row.state),
            "user_id": USER_ID,
            "job_params": _params(row.job),
            "error_code": None,
            "error_text": row.job.error_text,
            "created": moment(times.created),
            "started": moment(times.started),
            "completed": moment(times.completed),
            "product": self.files(row, row.product),
            "id": row.job.id,
        }


def _delivery(request: Request) -> str:
    order = _ORDERS[request.path]
    return request.form.get("delivery") or ("scratch" if order.type is JobType.VOLTAGE else "acacia")


def _complaint(mistake: Mistake) -> str:
    if mistake.key == "download_type" and mistake.is_missing:
        return "Download Type: Expected not None"
    return f"{mistake.key}: {mistake.message}"


def _params(job: Job) -> dict[str, Any]:
    """Return what was asked for, as text, and what the service adds to it."""
    params = {key: _text(value) for key, value in job.params.items()}
    if params.get("download_type") in METADATA_WORDS:
        params["download_type"] = "vis_meta"
    return {
        **params,
        "delivery": job.delivery,
        "job_type": "download" if job.type.is_download else job.type.value,
        "priority": 1,
        "user_pawsey_group": GROUP,
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
