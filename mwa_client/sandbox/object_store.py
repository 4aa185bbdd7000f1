"""The object store: another host, where a product is fetched with a URL that is signed for GET alone.

It knows no users: who has the URL has the product, until the URL has expired. It answers as the archive's
store does, which is Ceph's gateway; the ways of other stores can be switched on as faults.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from urllib.parse import quote, unquote

from .delivery import CEPH
from .endpoints import Responder
from .faults import Faults
from .interfaces import Interface
from .jobs import PracticeJob
from .messages import Call, Reply, Request, Target, of_the_store, xml_refusal
from .service import PracticeService

BUCKET = "/mwa-asvo/"
ACCESS_KEY_ID = "practice"

_IN_QUERY = str.maketrans({"+": "%2B", "/": "%2F", "=": "%3D"})


class ObjectStore(Responder):
    """Sends products to everybody who has a good URL.

    Parameters
    ----------
    service : PracticeService
        The accounts and jobs.
    faults : Faults
        What is to go wrong.
    link_seconds : float
        How long a URL is good.

    Attributes
    ----------
    address : str
        Where it listens: ``http://127.0.0.1:PORT``.
    """

    interface = Interface.STORE
    product_type = "application/x-tar"
    manner = CEPH

    def __init__(self, service: PracticeService, faults: Faults, link_seconds: float) -> None:
        super().__init__(service, faults)
        self.address = ""
        self._link_seconds = link_seconds
        self._secret = secrets.token_bytes(20)

    def url_of(self, job: PracticeJob, *, stale: bool = False) -> str:
        """Return a signed URL for a job's product, one that has expired if `stale`."""
        return self.signed(f"{BUCKET}{quote(job.object_name, safe='')}", stale=stale)

    def signed(self, path: str, *, stale: bool = False) -> str:
        """Return a signed URL for a path, whether an object is there or not."""
        now = int(self.service.now())
        expires = now - 1 if stale else now + int(self._link_seconds)
        signature = self._signature(path, str(expires)).translate(_IN_QUERY)
        query = f"AWSAccessKeyId={ACCESS_KEY_ID}&Signature={signature}&Expires={expires}"
        return f"{self.address}{path}?{query}"

    def target(self, request: Request) -> Target:
        """Return what a request is about."""
        job = self._find(_name(request))
        if job is None:
            return Target(request.path, Call.PRODUCT, interface=self.interface)
        return Target(request.path, Call.PRODUCT, job.id, job.obs_id, self.interface, delivery=job.delivery)

    def answer(self, request: Request, target: Target) -> Reply:
        """Return a product or a part of it, or an error as XML."""
        return self._refusal(request) or of_the_store(self._product(request, target))

    def _refusal(self, request: Request) -> Reply | None:
        query = request.query
        if "Authorization" in request.headers:
            return xml_refusal(400, "InvalidArgument")
        if "AWSAccessKeyId" not in query:
            return xml_refusal(403, "AccessDenied")
        expires = query.get("Expires", "")
        if not re.fullmatch("[0-9]{1,18}", expires) or self.service.now() >= int(expires):
            return xml_refusal(403, "AccessDenied")
        if query.get("AWSAccessKeyId") != ACCESS_KEY_ID:
            return xml_refusal(403, "InvalidAccessKeyId")
        signature, given = self._signature(request.path, expires), query.get("Signature", "")
        if not given:
            return xml_refusal(400, "InvalidArgument")
        # The method is signed, too, so a URL for GET is refused for HEAD.
        if request.method != "GET" or not hmac.compare_digest(given.encode(), signature.encode()):
            return xml_refusal(403, "SignatureDoesNotMatch")
        return None

    def _product(self, request: Request, target: Target) -> Reply:
        if not request.path.startswith(BUCKET):
            return xml_refusal(404, "NoSuchBucket")
        job = self.service.find(target.job_id)
        if job is None or job.goes_to_folder or not self.service.state(job).has_product:
            return xml_refusal(404, "NoSuchKey")
        return self.deliver(request, target, job)

    def _find(self, name: str) -> PracticeJob | None:
        return next((job for job in self.service.jobs() if job.object_name == name), None)

    def _signature(self, path: str, expires: str) -> str:
        text = f"GET\n\n\n{expires}\n{unquote(path)}"
        return base64.b64encode(hmac.digest(self._secret, text.encode(), hashlib.sha1)).decode()


def _name(request: Request) -> str:
    return unquote(request.path[len(BUCKET) :]) if request.path.startswith(BUCKET) else ""
