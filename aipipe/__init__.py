"""AI Pipe: static web apps call LLM APIs with a token and a small budget, instead of a key of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from aipipe import budgets, fetching, providers, settings, spans, upstream
from aipipe.catalog import Catalog
from aipipe.google import Certificates, Google
from aipipe.ledger import open_ledger
from aipipe.metering import Metering
from aipipe.metrics import build as count
from aipipe.pacing import Paced
from aipipe.pricing import Prices
from aipipe.services import Services
from aipipe.spans import Spans
from aipipe.throttle import Throttle
from aipipe.views import (
    account,
    admin,
    admin_pages,
    apps,
    docs,
    files,
    gateway,
    google_sign_in,
    handoff,
    health,
    home,
    library,
    metrics,
    playground,
    proxy,
    recording,
    responses,
    session,
    similarity,
    token,
    usage,
)

__version__ = "0.1.0"


class App(Flask):
    """None of whose functions is a coroutine: Flask would look for that at each of them, in each request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(*, dev: bool = False, environ: Mapping[str, str] | None = None) -> Flask:
    """The app, wired from its settings. `dev` is for `aipipe dev` alone: it lets anyone sign in as anybody.

    Call it in the process that serves: what it opens does not survive a fork.

    Raises:
        ConfigError: a setting can't be used; the message says what to write instead.
        LedgerUnavailable: the ledger can't be opened.
    """
    variables = os.environ if environ is None else environ
    config = settings.load(variables, dev=dev)

    app = App(__name__)
    app.secret_key = config["AIPIPE_SECRET"]
    app.config["MAX_CONTENT_LENGTH"] = config["MAX_BODY_BYTES"]
    app.url_map.merge_slashes = False  # another spelling of a path is another path
    if hops := config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]

    app.wsgi_app = Paced(  # type: ignore[method-assign]
        app.wsgi_app, seconds=config["CLIENT_TIMEOUT"], longest=config["REQUEST_TIMEOUT"]
    )

    registry, prices = providers.build(config), Prices(config["PRICES"])
    pool = upstream.Pool(
        upstream.Limits(
            connect=config["CONNECT_TIMEOUT"],
            first_byte=config["FIRST_BYTE_TIMEOUT"],
            idle=config["IDLE_TIMEOUT"],
            request=config["REQUEST_TIMEOUT"],
        )
    )
    ledger = open_ledger(config["AIPIPE_DATABASE_URL"])
    counts = count(config["INSTANCE_FOLDER"] / "metrics", ledger) if config["METRICS_TOKEN"] else None
    traced = Spans(variables) if spans.wanted(variables) else None
    metering = Metering(
        ledger,
        patience=config["QUEUE_SECONDS"],
        request_limit=config["REQUEST_TIMEOUT"],
        observers=[one for one in (counts, traced) if one],
    )
    metering.sweep()
    throttle = Throttle(ledger.visits, redis=config["AIPIPE_REDIS_URL"])
    app.extensions["aipipe"] = Services(
        config=config,
        dev=dev,
        ledger=ledger,
        metering=metering,
        providers=registry,
        prices=prices,
        budgets=budgets.parse(config["BUDGET"]),
        pool=pool,
        catalog=Catalog(registry.values(), prices, pool),
        google=Google(config["GOOGLE_CLIENT_ID"], Certificates()),
        fetcher=fetching.build(config["PROXY"], throttle, loopback=config["UNSAFE_LOOPBACK"]),
        throttle=throttle,
        metrics=counts,
    )

    responses.init_app(app)
    recording.init_app(app)
    session.init_app(app)
    files.init_app(app)
    docs.init_app(app)
    for view in (
        home,
        account,
        google_sign_in,
        handoff,
        apps,
        token,
        usage,
        admin,
        admin_pages,
        health,
        metrics,
        similarity,
        library,
        playground,
        proxy,
        gateway,
    ):
        app.register_blueprint(view.bp)
    return app
