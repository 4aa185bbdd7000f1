"""The interface since the end of 2018: an API key and a session cookie, forms in, words for states.

Products are fetched from the object store, or stand in a folder.
"""

from __future__ import annotations

from typing import Any

from .endpoints import USER_ID, CookieEndpoints
from .endpoints_today import GROUP, METADATA_WORDS, EndpointsToday, moment, state_word
from .interfaces import Interface
from .jobs import ListingRow, PracticeJob
from .keys import FieldError, field_errors, from_form
from .messages import JsonAnswer, Reply, Request, Target, json_reply, text_reply
from .routes import route_of


class EndpointsV1(EndpointsToday, CookieEndpoints):
    """The interface v1, with an API key and a cookie."""

    interface = Interface.V1
    cookie = "MWA_ASVO_SESSION"

    def client_name(self, request: Request) -> str | None:
        """Return the client's name and version, which stand in the place of a user name."""
        return request.credentials[0] if request.credentials else None

    def _login(self, request: Request, target: Target) -> Reply:
        client, key = request.credentials or ("", "")
        if not client or not self.service.knows_key(key):
            reply = self.refuse(401, "Invalid API key", v1=None)
            return reply.with_header("WWW-Authenticate", 'Basic realm="practice"')
        return text_reply(200, "").with_cookie(self.cookie, self.service.open_session())

    def _submit(self, request: Request, target: Target) -> Reply:
        route = route_of(self.interface, request)
        assert route is not None and route.form is not None
        values = from_form(route.form.keys, request.form)
        found = next(field_errors(route.form.keys, values), None)
        if found is not None:
            return self.refuse(400, _complaint(found))
        return self.take(target, route.form, request.form, again=bool(values.get("allow_resubmit")))

    def accepted(self, job: PracticeJob) -> dict[str, Any]:
        """Return the answer to a submission that made a job."""
        return {"job_id": job.id}

    def already_there(self, job: PracticeJob) -> JsonAnswer:
        """Return the answer to a submission of a job that is there already."""
        text = "Job already queued, processing or complete"
        return JsonAnswer(400, {"error": text, "error_code": 2, "job_id": job.id})

    def _cancel(self, request: Request, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None:
            return self.no_such_job(request.query.get("job_id"))
        state = self.service.state(job)
        if not state.is_under_way:
            return text_reply(400, f"Job {job.id} cannot be cancelled: it is {state_word(state)}")
        self.service.cancel(job.id)
        return json_reply(200, {"job_id": job.id})

    def document(self, row: ListingRow) -> dict[str, Any]:
        """Return the JSON object for a job in a listing."""
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


def _complaint(error: FieldError) -> str:
    if error.key == "download_type" and error.is_missing:
        return "Download Type: Expected not None"
    return f"{error.key}: {error.message}"


def _params(job: PracticeJob) -> dict[str, Any]:
    """Return the keys of the submission, as text, and those that the service adds."""
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
