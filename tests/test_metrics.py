"""`/metrics` where something is wrong; e2e/ has it with several workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SECRET, MakeApp

HEADERS = {"Authorization": f"Bearer {SECRET}"}


def test_without_a_ledger_the_rest_is_told(make_app: MakeApp, tmp_path: Path) -> None:
    client = make_app(AIPIPE_METRICS_TOKEN=SECRET).test_client()
    assert "aipipe_holds 0.0" in client.get("/metrics", headers=HEADERS).text

    ledger = tmp_path / "aipipe.db"
    ledger.rename(tmp_path / "elsewhere.db")
    assert client.get("/healthz").status_code == 503
    found = client.get("/metrics", headers=HEADERS)

    assert found.status_code == 200
    assert 'aipipe_errors_total{kind="ledger_unavailable"} 1.0' in found.text
    assert "aipipe_holds" not in found.text


def test_a_folder_that_cannot_be_written_stops_nothing(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").touch()
    client = make_app(AIPIPE_METRICS_TOKEN=SECRET).test_client()

    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics", headers=HEADERS).status_code == 404
    assert "There are no metrics until the next start" in caplog.text


def test_what_many_workers_left_is_kept_in_two_files(make_app: MakeApp, tmp_path: Path) -> None:
    for _ in range(3):
        app = make_app(AIPIPE_METRICS_TOKEN=SECRET)
        app.test_client().get("/healthz")
        app.extensions["aipipe"].metrics.close()
    client = make_app(AIPIPE_METRICS_TOKEN=SECRET).test_client()

    assert 'aipipe_requests_total{route="health",status="200"} 3.0' in client.get("/metrics", headers=HEADERS).text
    assert len(list((tmp_path / "metrics").glob("*.db"))) == 2 + 3
    assert not list((tmp_path / "metrics").glob("*.new"))
