"""The FastAPI application: routes, keys, and errors as one line of JSON."""

import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path

import omnialpha
from omnialpha.apps.server import routes
from omnialpha.apps.server.metrics import CONTENT_TYPE
from omnialpha.apps.server.model import Model
from omnialpha.apps.server.problems import Problem, ServiceError, problem_of
from omnialpha.apps.server.schemas import HealthAnswer
from omnialpha.apps.server.service import Service
from omnialpha.apps.server.settings import ServiceSettings
from omnialpha.pipeline import OmniAlphaPipeline

logger = logging.getLogger(__name__)


def create_app(model: Model | OmniAlphaPipeline, settings: ServiceSettings) -> FastAPI:
    """Make the web application of a service.

    Args:
        model: What does the jobs; a bare pipeline is called "nano".
        settings: Limits.

    Returns:
        The application. It starts and stops its service, which is `app.state.service`.
    """
    service = Service(model if isinstance(model, Model) else Model(model), settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    app = FastAPI(
        title="omnialpha",
        version=omnialpha.__version__,
        summary="Transparent images: matting, removal, layer decomposition, completion and text-to-image in RGBA.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    guard = [] if settings.api_key is None else [Depends(_key_check(settings.api_key))]
    app.include_router(routes.router, dependencies=guard, responses=routes.ERRORS)
    app.include_router(_house_keeping(guard))
    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _explain)
    app.add_middleware(_Measured, service=service)
    if settings.cors_origin:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origin, allow_methods=["*"], allow_headers=["*"])
    return app


def _key_check(key: str) -> Callable[..., Awaitable[None]]:
    """Make a dependency that asks for the key, as a bearer token or in the header X-API-Key."""
    bearer = Depends(HTTPBearer(auto_error=False, description="The service's key."))
    plain = Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description="The service's key."))

    async def check(token: HTTPAuthorizationCredentials | None = bearer, header: str | None = plain) -> None:
        given = token.credentials if token is not None else header or ""
        if not hmac.compare_digest(given.encode(), key.encode()):  # takes as long for any wrong key
            message = 'send the key of this service as "Authorization: Bearer KEY" or "X-API-Key: KEY"'
            raise ServiceError(Problem(401, "Unauthorized", message))

    return check


def _house_keeping(guard: list[Any]) -> APIRouter:
    router = APIRouter()

    @router.get("/health", tags=["service"], responses={503: {"model": HealthAnswer}})
    def health(request: Request, response: Response) -> HealthAnswer:
        """Whether the service works, and how much there is to do. Asks for no key."""
        service: Service = request.app.state.service
        counts = service.store.counts()
        response.status_code = 200 if service.state == "ok" else 503
        return HealthAnswer(
            status=service.state,
            queued=counts.get("queued", 0),
            running=counts.get("running", 0),
            version=omnialpha.__version__,
        )

    @router.get(
        "/metrics",
        tags=["service"],
        dependencies=guard,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: routes.ERRORS[401]},
    )
    def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        service: Service = request.app.state.service
        return Response(service.metrics.text(service.store.counts()), headers={"Content-Type": CONTENT_TYPE})

    return router


async def _explain(request: Request, error: Exception) -> Response:
    """Any error as {"error": {"type", "message"}} with its status."""
    if isinstance(error, HTTPException):
        names = {404: "NotFound", 405: "MethodNotAllowed"}
        problem = Problem(error.status_code, names.get(error.status_code, "BadRequest"), str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        problem = Problem(422, "InputError", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        headers = {}
    else:
        problem, headers = problem_of(error), {}
        if problem.status == 500:
            logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error": {"type": problem.kind, "message": problem.message}}
    return JSONResponse(body, problem.status, headers)


def _methods(request: Request) -> set[str]:
    """All methods of an address: Starlette names those of its first route only."""
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].match(request.url.path):
            found |= {method.upper() for method in operations}
    return found


class _Measured:
    """ASGI middleware: counts requests, and answers what no handler expected.

    Starlette raises unexpected errors again after their handler has answered, so that servers log them once more:
    they end here.
    """

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._metrics = app, service.metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), [500]

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if status[0] != 500:  # the answer had begun: the server can only break it off
                raise
            await (await _explain(Request(scope), error))(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status[0])).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - start)
