"""The page as an ASGI application: it only shows, and asks nobody else for anything."""

from __future__ import annotations

import hashlib
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import raffect.report
from raffect import __version__
from raffect.errors import NotThereError, StoreError
from raffect.report.figures.style import DARK, LIGHT, declarations
from raffect.report.page import make_environment
from raffect.store import Store
from raffect.web.view import STATUS_TEXT, Shown, failures_json, sweep_json, trials_json
from raffect.web.watch import Seen, Watch

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report is one file with all that it needs in it, and allows itself no more than this.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MOST_REPORTS = 4
"""Reports that are kept, of two megabytes each."""
_AGAIN = {"Retry-After": "2"}

OnTrouble = Callable[[str], None]


def make_app(
    store: Store, hosts: Sequence[str] = ("*",), on_trouble: OnTrouble = lambda text: None
) -> Starlette:
    """The application.

    Args:
        store: The store.
        hosts: Names by which a browser may ask; any other is refused, so that no foreign page can
            have its own name point here and read what this one shows.
        on_trouble: Told of bugs.
    """
    pages = _Pages(Watch(store))

    def failed(request: Request, error: Exception) -> Response:
        return _failed(request, error, on_trouble)

    return Starlette(
        routes=[
            Route("/", pages.sweeps, methods=["GET"]),
            Route("/sweeps/{name}", pages.sweep, methods=["GET"]),
            Route("/sweeps/{name}/report", pages.report, methods=["GET"]),
            Route("/api/sweeps", pages.sweeps_api, methods=["GET"]),
            Route("/api/sweeps/{name}", pages.sweep_api, methods=["GET"]),
            Route("/board.css", _style, methods=["GET"]),
            Route("/board.js", _script, methods=["GET"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            HTTPException: failed,
            NotThereError: failed,
            StoreError: failed,
            Exception: failed,
        },
    )


class _Pages:
    """Answers; each call is a thread's."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._reports = _Reports(watch.store)

    def sweeps(self, request: Request) -> Response:
        found = self._watch.all()
        tag = _tag("".join(f"{seen.name} {seen.version} " for seen in found))
        store = self._watch.store.uri
        shown = [(seen, _shown(seen, store)) for seen in found]
        return _live(request, tag, "sweeps.html", title="Sweeps", sweeps=shown, store=store)

    def sweep(self, request: Request) -> Response:
        seen = self._watch.look(request.path_params["name"])
        store = self._watch.store.uri
        shown = _shown(seen, store)
        values = {"title": seen.name, "seen": seen, "sweep": shown, "store": store}
        return _live(request, seen.version, "sweep.html", **values)

    def report(self, request: Request) -> Response:
        page = self._reports.page(self._watch.look(request.path_params["name"]))
        if page is None:
            return _message("The sweep is being written; this page looks again.", again=2)
        policy = {"Content-Security-Policy": _REPORT_POLICY}
        return _conditional(request, _tag(page), lambda: HTMLResponse(page), policy)

    def sweeps_api(self, request: Request) -> Response:
        return JSONResponse([sweep_json(seen) for seen in self._watch.all()], headers=_HEADERS)

    def sweep_api(self, request: Request) -> Response:
        seen = self._watch.look(request.path_params["name"])
        if seen.view is None:
            raise HTTPException(503, "The sweep is being written.", headers=_AGAIN)
        more = {"leaderboard": trials_json(seen.view), "failures": failures_json(seen.view)}
        return JSONResponse({**sweep_json(seen), **more}, headers=_HEADERS)


class _Reports:
    """Reports, made when they are asked for, and again when their sweep has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # One at a time: each takes the memory of a model and its features.
        self._lock = threading.Lock()
        self._pages: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def page(self, seen: Seen) -> str | None:
        """The report; None while it can't be made because its sweep is being written."""
        from raffect.report.collect import collect
        from raffect.report.page import sweep_page

        if seen.view is None:
            return None
        with self._lock:
            version, page = self._pages.get(seen.name, ("", ""))
            if version != seen.study:
                try:
                    page = sweep_page(collect(self._store, seen.name), datetime.now(UTC))
                except (FileNotFoundError, NotThereError):
                    return None
                self._pages[seen.name] = (seen.study, page)
            self._pages.move_to_end(seen.name)
            while len(self._pages) > _MOST_REPORTS:
                self._pages.popitem(last=False)
            return page


def _shown(seen: Seen, store: str) -> Shown | None:
    return None if seen.view is None else Shown(seen, seen.view, store)


def _live(request: Request, tag: str, template: str, **values: Any) -> Response:
    """A page, or with `?part=live` only what changes of it; nothing when that did not."""
    whole = request.query_params.get("part") != "live"
    return _conditional(
        request,
        f"{tag}-{'page' if whole else 'part'}",
        lambda: HTMLResponse(render(template, whole=whole, **values)),
    )


def _conditional(
    request: Request,
    tag: str,
    make: Callable[[], Response],
    headers: dict[str, str] | None = None,
) -> Response:
    quoted = f'"{tag}"'
    known = request.headers.get("if-none-match") == quoted
    response = Response(status_code=HTTPStatus.NOT_MODIFIED) if known else make()
    response.headers.update({**_HEADERS, "ETag": quoted, **(headers or {})})
    return response


def _style(request: Request) -> Response:
    return _asset(request, style_sheet(), "text/css")


def _script(request: Request) -> Response:
    return _asset(request, script(), "text/javascript")


def _asset(request: Request, text: str, kind: str) -> Response:
    return _conditional(request, _tag(text), lambda: PlainTextResponse(text, media_type=kind))


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _message(text: str, status: int = 200, again: int | None = None) -> Response:
    page = render("message.html", title="raffect", text=text, again=again)
    return HTMLResponse(page, status, headers=_HEADERS)


def _failed(request: Request, error: Exception, on_trouble: OnTrouble) -> Response:
    """What went wrong, as a page or as JSON; a store that does not answer is tried again."""
    again, headers = None, {}
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
        headers = dict(error.headers or {})
    elif isinstance(error, NotThereError):
        status, text = 404, error.got
    elif isinstance(error, StoreError):
        status, text, again, headers = 503, error.got, 5, _AGAIN
    else:
        status, text = 500, f"A bug of raffect's: {type(error).__name__}."
        on_trouble("".join(traceback.format_exception(error)))
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status, headers={**_HEADERS, **headers})
    response = _message(text, status, again)
    response.headers.update(headers)
    return response


_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A page, or the part of one that is fetched again."""
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def style_sheet() -> str:
    """The report's colours and style, and what only this page has."""
    report = Path(next(iter(raffect.report.__path__)))
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {declarations(DARK)} }} }}"
    parts = [
        f":root {{ {declarations(LIGHT)} }}",
        dark,
        (report / "report.css").read_text(encoding="utf-8"),
        (_HERE / "board.css").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts)


@cache
def script() -> str:
    """What fetches the live part again."""
    return (_HERE / "board.js").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return make_environment(
        _HERE,
        rate=lambda rate: f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        status=lambda status: STATUS_TEXT[status],
        moment=lambda iso: iso[:16].replace("T", " ") + " UTC",
    )
