"""docs/openapi.json has exactly our routes, and no request that it allows, or nearly allows, makes AI Pipe fail."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from contextlib import closing
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import schemathesis
from conftest import SECRET, MakeApp
from documented import ROOT
from flask import Flask
from schemathesis.config import (
    AnalysisConfig,
    ConstantsConfig,
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from aipipe import tokens

DOCUMENT = ROOT / "docs" / "openapi.json"
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
# Views of pages, their forms and files: for people, not for programs.
PAGES = {
    "home",
    "account",
    "google_sign_in",
    "handoff",
    "apps",
    "files",
    "static",
    "playground",
    "admin_pages",
    "admin_person",
    "docs",
}
ALSO_PAGES = {"/usage.csv"}

Operation = tuple[str, str]


def documented() -> set[Operation]:
    paths = json.loads(DOCUMENT.read_text())["paths"]
    return {(method.upper(), path) for path, item in paths.items() for method in item if method.upper() in METHODS}


def served(app: Flask) -> set[Operation]:
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
        if rule.endpoint.partition(".")[0] not in PAGES
        and rule.rule not in ALSO_PAGES
        and "path" not in (rule.defaults or {})
    }


def test_it_has_exactly_our_routes(make_app: MakeApp) -> None:
    assert documented() == served(make_app())


def test_it_is_served_to_every_origin_as_it_is(make_app: MakeApp) -> None:
    answer = make_app().test_client().get("/openapi.json")
    assert answer.data == DOCUMENT.read_bytes()
    assert (answer.content_type, answer.headers["Access-Control-Allow-Origin"]) == ("application/json", "*")


class Server:
    """The app of the present test: the cases are made before there is one."""

    app: Flask

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with closing(self.app(environ, start_response)) as answer:
            return [b"".join(answer)]


PROJECT = ProjectConfig(
    headers={"Authorization": f"Bearer {tokens.issue('dana@example.com', secret=SECRET, now=time.time(), days=1)}"},
    generation=GenerationConfig(max_examples=25, deterministic=True),
    analysis=AnalysisConfig(constants=ConstantsConfig(enabled=False)),  # else other code means other cases
)
schema = schemathesis.openapi.from_path(
    DOCUMENT, config=SchemathesisConfig(seed=8787, projects=ProjectsConfig(default=PROJECT))
)
schema.app = Server()


@pytest.fixture
def described(make_app: MakeApp) -> None:
    """An app with everything set up, and a budget that buys nothing: so nothing is ever sent to a provider."""
    nothing = {"*": {"limit": 0.000000001, "days": 1}}
    Server.app = make_app(AIPIPE_BUDGET=nothing, GOOGLE_CLIENT_ID="client-id", AIPIPE_METRICS_TOKEN=SECRET)


@pytest.mark.usefixtures("described")
@schema.parametrize()
def test_whatever_is_asked_is_answered_as_described(case: schemathesis.Case) -> None:
    # What is taken and what is refused depends on more than a schema can say, and other tests have it.
    case.call_and_validate(excluded_checks=[positive_data_acceptance, negative_data_rejection])
