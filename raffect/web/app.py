"""The page as an ASGI application: it only reads, and asks no other server for anything."""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path

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
from raffect.report.collect import collect
from raffect.report.figures.style import DARK, LIGHT, declarations
from raffect.report.page import make_environment, sweep_page
from raffect.store import Store
from raffect.web.live import LiveSweep, LiveSweeps, digest
from raffect.web.view import STATUS_TEXT, TOP, SweepPage

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
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
_MOST_SWEEPS = 100
"""Sweeps that the index shows until all are asked for."""
_MOST_COMPARED = 8
_MOST_REPORTS = 4
"""Reports that are kept, of two megabytes each."""
_AGAIN = {"Retry-After": "2"}

OnBug = Callable[[str], None]


def make_app(
    store: Store, hosts: Sequence[str] = ("*",), on_bug: OnBug = lambda trace: None
) -> Starlette:
    """The application; `on_bug` is called with the traceback of each bug.

    A browser may ask by the names in `hosts` only, so that no foreign page can have its own name
    point here and read what this one shows.
    """
    pages = _Pages(LiveSweeps(store))
    errors = (HTTPException, NotThereError, StoreError, Exception)
    return Starlette(
        routes=[
            Route("/", pages.sweeps, methods=["GET"]),
            Route("/sweeps/{name}", pages.sweep, methods=["GET"]),
            Route("/sweeps/{name}/report", pages.report, methods=["GET"]),
            Route("/compare", pages.compare, methods=["GET"]),
            Route("/api/sweeps", pages.sweeps_api, methods=["GET"]),
            Route("/api/sweeps/{name}", pages.sweep_api, methods=["GET"]),
            Route("/board.css", pages.style, methods=["GET"]),
            Route("/board.js", pages.script, methods=["GET"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers=dict.fromkeys(errors, partial(_failed, on_bug=on_bug)),
    )


class _Pages:
    """The responses. Starlette calls each method in a thread of its own."""

    def __init__(self, sweeps: LiveSweeps) -> None:
        self._sweeps = sweeps
        self._store = sweeps.store.uri
        self._reports = _Reports(sweeps.store)

    def sweeps(self, request: Request) -> Response:
        found = self._sweeps.all()
        rows = _rows(request, _MOST_SWEEPS)
        tag = digest(f"{rows} " + "".join(f"{live.name} {live.version} " for live in found))
        sweeps = [(live, self._page(live)) for live in found[:rows]]
        values = {"title": "Sweeps", "sweeps": sweeps, "number": len(found), "store": self._store}
        return _live(request, tag, "sweeps.html", values)

    def sweep(self, request: Request) -> Response:
        live = self._look(request)
        rows = _rows(request, TOP)
        page = self._page(live, rows)
        values = {"title": live.name, "live": live, "sweep": page, "store": self._store}
        return _live(request, f"{live.version}-{rows}", "sweep.html", values)

    def compare(self, request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("sweep")))[:_MOST_COMPARED]
        found = [self._sweeps.look(name) for name in names]
        tag = digest("".join(f"{live.name} {live.version} " for live in found))
        pages = [page for live in found if (page := self._page(live)) is not None]
        searched = dict.fromkeys(key for page in pages for row in page.top for key in row.params)
        values = {"title": "Compare", "sweeps": pages, "searched": list(searched)}
        return _live(request, tag, "compare.html", values)

    def report(self, request: Request) -> Response:
        page = self._reports.page(self._look(request))
        if page is None:
            return _message("The sweep is being written; this page looks again.", again=2)
        policy = {"Content-Security-Policy": _REPORT_POLICY}
        return _conditional(request, digest(page), lambda: HTMLResponse(page), policy)

    def sweeps_api(self, request: Request) -> Response:
        return JSONResponse([_sweep_json(live) for live in self._sweeps.all()], headers=_HEADERS)

    def sweep_api(self, request: Request) -> Response:
        live = self._look(request)
        page = self._page(live)
        if page is None:
            raise HTTPException(503, "The sweep is being written.", headers=_AGAIN)
        more = {
            "leaderboard": page.view.trials_json(),
            "failures": {one.kind: len(one.numbers) for one in page.failures},
        }
        return JSONResponse({**_sweep_json(live), **more}, headers=_HEADERS)

    def style(self, request: Request) -> Response:
        return _asset(request, _style_sheet(), "text/css")

    def script(self, request: Request) -> Response:
        return _asset(request, (_HERE / "board.js").read_text(encoding="utf-8"), "text/javascript")

    def _look(self, request: Request) -> LiveSweep:
        return self._sweeps.look(request.path_params["name"])

    def _page(self, live: LiveSweep, rows: int | None = TOP) -> SweepPage | None:
        return None if live.view is None else SweepPage(live, live.view, self._store, rows)


def _rows(request: Request, usual: int) -> int | None:
    """Rows of a page's table that are asked for; None for all."""
    asked = request.query_params.get("rows", "")
    if asked == "all":
        return None
    return int(asked) if asked.isdecimal() and len(asked) < 6 else usual


def _sweep_json(live: LiveSweep) -> dict[str, object]:
    """A sweep as in `raffect trials --json`, and whether a command is running it."""
    shown: Mapping[str, object] = live.view.to_json() if live.view else {}
    return {"name": live.name, "status": live.status, "job": live.job, **shown}


class _Reports:
    """Reports, made when they are asked for, and again when their sweep has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # One at a time: each takes the memory of a model and its features.
        self._lock = threading.Lock()
        self._pages: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def page(self, live: LiveSweep) -> str | None:
        """The report; None while it can't be made because its sweep is being written."""
        if live.view is None:
            return None
        with self._lock:
            study, page = self._pages.get(live.name, ("", ""))
            if study != live.study:
                try:
                    page = sweep_page(collect(self._store, live.name), datetime.now(UTC))
                except (FileNotFoundError, NotThereError):
                    return None
                self._pages[live.name] = (live.study, page)
            self._pages.move_to_end(live.name)
            while len(self._pages) > _MOST_REPORTS:
                self._pages.popitem(last=False)
            return page


def _live(request: Request, tag: str, template: str, values: Mapping[str, object]) -> Response:
    """A page, or with `?part=live` only the part that changes; nothing if that has not."""
    whole = request.query_params.get("part") != "live"
    return _conditional(
        request,
        f"{tag}-{'page' if whole else 'part'}",
        lambda: HTMLResponse(_render(template, whole=whole, **values)),
    )


def _conditional(
    request: Request, tag: str, make: Callable[[], Response], headers: dict[str, str] | None = None
) -> Response:
    """A response that is made only if the browser does not have it already."""
    quoted = f'"{tag}"'
    known = request.headers.get("if-none-match") == quoted
    response = Response(status_code=HTTPStatus.NOT_MODIFIED) if known else make()
    response.headers.update({**_HEADERS, "ETag": quoted, **(headers or {})})
    return response


def _asset(request: Request, text: str, kind: str) -> Response:
    return _conditional(request, digest(text), lambda: PlainTextResponse(text, media_type=kind))


@cache
def _style_sheet() -> str:
    """The report's colours and style, and what only this page has."""
    report = Path(next(iter(raffect.report.__path__)))
    parts = [
        f":root {{ {declarations(LIGHT)} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {declarations(DARK)} }} }}",
        (report / "report.css").read_text(encoding="utf-8"),
        (_HERE / "board.css").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts)


def _message(text: str, status: int = 200, again: int | None = None) -> Response:
    page = _render("message.html", title="raffect", text=text, again=again)
    return HTMLResponse(page, status, headers=_HEADERS)


def _failed(request: Request, error: Exception, on_bug: OnBug) -> Response:
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
        on_bug("".join(traceback.format_exception(error)))
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status, headers={**_HEADERS, **headers})
    response = _message(text, status, again)
    response.headers.update(headers)
    return response


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def _environment() -> Environment:
    return make_environment(
        _HERE,
        rate=lambda rate: f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        status=lambda status: STATUS_TEXT[status],
        moment=lambda iso: iso[:16].replace("T", " ") + " UTC",
    )
