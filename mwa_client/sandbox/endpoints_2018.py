"""The interface of 2017 and 2018: user name and password, forms in, numbers for states.

Products are fetched from the service itself.
"""

from __future__ import annotations

import re
from typing import Any

from .endpoints import USER_ID, CookieEndpoints
from .interfaces import Interface
from .jobs import ListingRow, PracticeJob, PracticeState, PracticeType
from .messages import Reply, Request, Target, json_reply, refusal, text_reply
from .service import LimitReached

_STATES = {
    PracticeState.READY: 2,
    PracticeState.ERROR: 3,
    PracticeState.EXPIRED: 4,
    PracticeState.CANCELLED: 5,
}

MOST_KEYS, LONGEST = 50, 200
_TODAYS_KEYS = ("delivery", "output")
"""Keys of the later interfaces; this one ignores them."""
_CONVERSION_KEYS = ("obs_id", "timeres", "freqres", "edgewidth", "conversion")
_DOWNLOAD_KEYS = ("obs_id", "download_type")


class Endpoints2018(CookieEndpoints):
    """The interface of 2018, with a user name and a password."""

    interface = Interface.V2018
    cookie = "MWA_JOB_COOKIE"

    def _login(self, request: Request, target: Target) -> Reply:
        credentials = request.credentials
        token = self.service.login(*credentials) if credentials else None
        if token is None:
            reply = refusal(401, "Wrong user name or password")
            return reply.with_header("WWW-Authenticate", 'Basic realm="practice"')
        return text_reply(200, "").with_cookie(self.cookie, token)

    def _submit(self, request: Request, target: Target) -> Reply:
        conversion = request.path == "/api/conversion_job"
        form = {key: value for key, value in request.form.items() if key not in _TODAYS_KEYS}
        missing = [key for key in (_CONVERSION_KEYS if conversion else _DOWNLOAD_KEYS) if not form.get(key)]
        if missing:
            return refusal(400, f"Missing: {', '.join(missing)}")
        if len(form) > MOST_KEYS or any(len(key + value) > LONGEST for key, value in form.items()):
            return refusal(400, "Too long")
        if not re.fullmatch("[0-9]{1,10}", form["obs_id"]):
            return refusal(400, f"Invalid obs_id: {form['obs_id']}")
        if conversion:
            job_type, choice, choices = PracticeType.CONVERSION, "conversion", ("ms", "uvfits")
        else:
            metadata = form["download_type"] == "vis_meta"
            job_type = PracticeType.METADATA if metadata else PracticeType.VISIBILITIES
            choice, choices = "download_type", ("vis", "vis_meta")
        if form[choice] not in choices:
            return refusal(400, f"Invalid {choice}: {form[choice]}")
        try:
            job = self.service.submit(job_type, form)
        except LimitReached:
            return refusal(503, "There are too many jobs")
        return self.accept(target, job, {"job_id": job.id})

    def document(self, row: ListingRow) -> dict[str, Any]:
        """Return the JSON object for a job in a listing."""
        product = None
        if row.product is not None:
            entry = [row.product.name, row.product.size, row.product.sha1]
            product = {"files": [entry if row.product.sha1 is not None else entry[:2]]}
        return {
            "id": row.job.id,
            "job_type": row.job.type.number,
            "job_state": _state_number(row.state),
            "user_id": USER_ID,
            "job_params": dict(row.job.params),
            "error_text": row.job.error_text,
            "product": product,
        }

    def _cancel(self, request: Request, target: Target) -> Reply:
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


def _state_number(state: PracticeState | int | str) -> int | str:
    if not isinstance(state, PracticeState):
        return state
    return _STATES.get(state, 0 if state.is_waiting else 1)


def _no_product(job: PracticeJob, state: PracticeState) -> Reply | None:
    if state.has_product:
        return None
    if state is PracticeState.EXPIRED:
        return refusal(410, f"The product of job {job.id} has expired")
    return refusal(404, f"Job {job.id} has no product: {state.value}")
