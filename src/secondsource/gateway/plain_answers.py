"""The public paths that go to no replica: models, health, readiness, and what does not exist."""

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.gateway.authentication import Authentication
from secondsource.gateway.client import Request
from secondsource.gateway.place import ProcessBooks
from secondsource.gateway.wire.errors import error_body
from secondsource.gateway.wire.request import Endpoint, RequestError
from secondsource.policy.routing import Router

ENDPOINTS = {endpoint.value: endpoint for endpoint in Endpoint}
HEALTH_PATHS = ("/health", "/ready")
MODELS_PATH = "/v1/models"


class PlainAnswers:
    """Answers at once what needs no replica."""

    def __init__(self, fleet: Fleet, router: Router, books: ProcessBooks, authentication: Authentication) -> None:
        self._router = router
        self._books = books
        self.stopping = False
        self.reload(fleet, authentication)

    def reload(self, fleet: Fleet, authentication: Authentication) -> None:
        """Answer for another fleet."""
        self._models = fleet.models
        self._authentication = authentication

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Return status and body; raises RequestError for an unknown path or a method that it does not take."""
        path = request.path
        reads = request.method in (b"GET", b"HEAD")
        if path in HEALTH_PATHS and reads:
            return (200, b'{"status":"ok"}') if path == "/health" else self._ready()
        models = path == MODELS_PATH or path.startswith(MODELS_PATH + "/")
        if models and reads:
            self._authentication.require(request)
            return 200, self._listed(path.removeprefix(MODELS_PATH).lstrip("/"))
        if path in ENDPOINTS or models or path in HEALTH_PATHS:
            raise RequestError(f"{path} does not take {request.method.decode('latin-1')}", status=405)
        raise RequestError(f"unknown path {path[:200]}", status=404, code="unknown_url")

    def _ready(self) -> tuple[int, bytes]:
        missing = [model for model in self._models if not self._router.ready(model)]
        if self._books.refusing:
            why = "the ledger cannot be written"
        elif self.stopping:
            why = "stopping"
        elif missing:
            why = f"no replica is well for: {', '.join(missing)}"
        else:
            return 200, b'{"status":"ready"}'
        return 503, error_body(503, f"not ready: {why}", code="not_ready")

    def _listed(self, wanted: str) -> bytes:
        if wanted and wanted not in self._models:
            raise unknown_model(wanted, self._models)
        models = [
            {"id": model, "object": "model", "created": 0, "owned_by": "secondsource"}
            for model in ([wanted] if wanted else self._models)
        ]
        return msgspec.json.encode(models[0] if wanted else {"object": "list", "data": models})


def unknown_model(model: str, known: tuple[str, ...]) -> RequestError:
    """Return the error for a model that the fleet does not have."""
    message = f"the model '{model[:200]}' does not exist here; there is: {', '.join(known)}"
    return RequestError(message, status=404, param="model", code="model_not_found")
