"""What stands before every answer: who may ask, the headers of every answer, and errors as JSON."""

import logging
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mcm.core.errors import BadTopic, McmError, UsageError
from mcm.core.web_access import Access, Asked, Denied
from mcm.web.source import Busy

__all__ = ["COOKIE", "NotFound", "failure", "guarded", "prepare"]

log = logging.getLogger("mcm.dashboard")

COOKIE = "mcm_dashboard"
_OPEN_TO_ALL = {"/health"}
_HEADERS = {
    # Nothing but our own files, and none of it inline: a name of the vendor that looks like markup stays a text.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "mcm",
}


class NotFound(UsageError):
    """What was named is not there."""


def prepare(response: web.StreamResponse) -> None:
    """Give an answer the headers that every answer has; what does not say otherwise is kept nowhere."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


def failure(status: int, problem: str, hint: str = "") -> web.Response:
    """An error, for programs and people alike."""
    body = msgspec.json.encode({"status": status, "problem": problem, "hint": hint})
    headers = {"WWW-Authenticate": 'Bearer realm="mcm"'} if status == HTTPStatus.UNAUTHORIZED else {}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def guarded(access: Access) -> Middleware:
    """The middleware of a dashboard with these rules."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _admit(access, request, handler)
        if not response.prepared:
            prepare(response)
        return response

    return guard


async def _admit(access: Access, request: web.Request, handler: Handler) -> web.StreamResponse:
    asked = Asked(
        is_write=request.method not in {"GET", "HEAD"},
        host=request.headers.get("Host", ""),
        origin=request.headers.get("Origin", ""),
        fetch_site=request.headers.get("Sec-Fetch-Site", ""),
        authorization=request.headers.get("Authorization", ""),
        cookie=request.cookies.get(COOKIE, ""),
        in_query=request.query.get("token", ""),
    )
    denied = access.judge(asked, is_open=request.path in _OPEN_TO_ALL)
    if denied is not None:
        return _refuse(denied)
    if asked.in_query and request.method == "GET" and access.token:
        return _without_token(access, request, is_right=access.opens(asked.in_query))
    return await _answer(request, handler)


def _refuse(denied: Denied) -> web.Response:
    return failure(denied.status, denied.problem, denied.hint)


def _without_token(access: Access, request: web.Request, *, is_right: bool) -> web.Response:
    """Have the browser ask again without the token in its address, where histories would keep it."""
    place = request.rel_url.without_query_params("token")
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": str(place)})
    if is_right:
        response.set_cookie(COOKIE, access.cookie, httponly=True, samesite="Lax", path="/", max_age=30 * 86_400)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Call the handler; what goes wrong becomes an answer that says what helps."""
    try:
        return await handler(request)
    except NotFound as error:
        return failure(404, error.problem, error.hint)
    except (BadTopic, UsageError) as error:
        return failure(400, error.problem, error.hint)
    except Busy as error:
        return failure(503, str(error), "it is only for a moment")
    except McmError as error:  # it is not running, or does not answer
        return failure(503, str(error), "look at `mcm status` and RUN_DIR/logs/supervisor.log")
    except web.HTTPException as error:
        is_unknown = error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
        problem = f"there is no {request.method} {request.path}" if is_unknown else error.text or error.reason
        response = failure(error.status, problem, "GET /api/openapi.json lists what there is" if is_unknown else "")
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        raise
    except Exception:
        log.exception("a request could not be answered")
        return failure(500, "the dashboard has a bug in this answer", "its traceback is in RUN_DIR/logs/dashboard.log")
