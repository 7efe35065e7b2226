"""`aipipe …`: the server, tokens, spending and the configuration, from a terminal."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import click

from aipipe import budgets, importing, providers, serving, settings, tokens
from aipipe.budgets import Budget, Budgets
from aipipe.errors import AppError, ConfigError
from aipipe.ledger import Day, Ledger, copying, open_ledger
from aipipe.money import show
from aipipe.pricing import Prices
from aipipe.providers import Registry
from aipipe.throttle import connect
from aipipe.views.sheets import harmless

Made = TypeVar("Made")


class Commands(click.Group):
    """Commands whose failures are a sentence on stderr and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ConfigError, AppError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Commands)
@click.version_option(package_name="aipipe")
def main() -> None:
    """Lets static web apps call LLM APIs with a token and a budget."""


@main.command()
def dev() -> None:
    """Serve on this machine alone, to try AI Pipe out or to work on it."""
    serving.serve(dev=True)


@main.command()
def serve() -> None:
    """Serve."""
    serving.serve(dev=False)


@main.command()
@click.argument("email")
@click.option("--days", type=click.IntRange(1, budgets.MAX_DAYS), help="How long it is good for [default: TOKEN_DAYS].")
def token(email: str, days: int | None) -> None:
    """Print a new personal token for EMAIL."""
    config = configuration()
    try:
        email = tokens.plausible_email(email)
    except ValueError:
        raise click.ClickException(f"{email!r} is not an email address.") from None
    salt = config["SALT"].get(email)
    days = days or config["TOKEN_DAYS"]
    click.echo(tokens.issue(email, secret=config["AIPIPE_SECRET"], now=time.time(), days=days, salt=salt))


@main.command()
@click.argument("email", required=False)
@click.option("--csv", "as_csv", is_flag=True, help="As comma-separated values.")
def usage(email: str | None, as_csv: bool) -> None:
    """Print what everybody, or EMAIL alone, spent on each day, newest first."""
    config = configuration()
    email = email and email.lower()
    with closing(open_ledger(config["AIPIPE_DATABASE_URL"])) as ledger:
        days = ledger.daily(email, date.min, date.max)
        if as_csv:
            print_csv(days)
            return
        for day in days:
            click.echo(f"{day.date}  {dollars(day.cost):>14}  {day.email}")
        if email:
            click.echo(spent_in_window(ledger, email, budgets.parse(config["BUDGET"]).find(email)))
        else:
            click.echo(f"Total       {dollars(sum(day.cost for day in days)):>14}")


@main.command("import")
@click.argument("source", metavar="FILE_OR_URL")
def import_(source: str) -> None:
    """Take what was spent at another AI Pipe into the ledger.

    FILE_OR_URL is, or answers, the JSON of its /admin/usage; a URL is asked with the token in AIPIPE_TOKEN. What was
    imported before isn't imported again, and what was spent here stays.
    """
    config = configuration()
    days = importing.days_in(importing.fetch(source, os.environ.get("AIPIPE_TOKEN")))
    with closing(open_ledger(config["AIPIPE_DATABASE_URL"])) as ledger:
        did = importing.load(ledger, days)
    click.echo(f"Rows       {did.rows}, {dollars(did.total)}")
    click.echo(f"Added      {did.added}, {dollars(did.amount)}")
    click.echo(f"Unchanged  {did.rows - did.added}")


@main.command()
@click.argument("url")
def migrate(url: str) -> None:
    """Copy the ledger from SQLite into the empty PostgreSQL database at URL.

    Stop AI Pipe first. If this is broken off nothing was copied, and it can be run again.
    """
    config = configuration()
    for table, rows in copying(config["AIPIPE_DATABASE_URL"], url):
        click.echo(f"{table:<16} {rows:>12,} rows")
    with closing(open_ledger(url)) as ledger:
        spent = sum(total.cost for total in ledger.totals(["date"], date.min, date.max))
        click.echo(
            f"Spent            {dollars(spent):>12} in all; the books {'' if ledger.balanced() else 'do not '}balance"
        )
    click.echo("Now set AIPIPE_DATABASE_URL to that address, and start AI Pipe.")


@main.command()
@click.option("--days", type=click.IntRange(31, budgets.MAX_DAYS), help="Sooner or later [default: KEEP_ENTRIES_DAYS].")
def prune(days: int | None) -> None:
    """Sum up entries that are older than KEEP_ENTRIES_DAYS: what was spent on each day, on which model, stays.

    May run beside a server, be stopped at any time, and run again.
    """
    config = configuration()
    days = days or config["KEEP_ENTRIES_DAYS"]
    if days is None:
        raise click.ClickException("KEEP_ENTRIES_DAYS is not set, so entries are kept for ever. Set it, or use --days.")
    with closing(open_ledger(config["AIPIPE_DATABASE_URL"])) as ledger:
        folded = ledger.pruning.fold(time.time() - days * 86_400)
        click.echo(f"Summed up  {folded} entries older than {days} days")
        click.echo(f"Balanced   {'yes' if ledger.balanced() else 'no'}")


@main.command()
def check() -> None:
    """Say what is on and off, and what is wrong. Exit code 1 if anything is."""
    config, problems = settings.examine(os.environ)
    registry = attempt(lambda: providers.build(config), problems)
    limits = attempt(lambda: budgets.parse(config["BUDGET"]), problems)
    attempt(lambda: Prices(config["PRICES"]), problems)
    ledger = attempt(lambda: ledger_answers(config["AIPIPE_DATABASE_URL"]), problems)
    counted = attempt(lambda: where_counted(config["AIPIPE_REDIS_URL"]), problems)
    for name, state in overview(config, registry, limits, ledger=bool(ledger), counted=counted or "nowhere"):
        click.echo(f"{name:<16}{state}")
    for problem in problems:
        click.echo(f"To fix: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo("Nothing to fix.")


def configuration() -> dict[str, Any]:
    """The settings of the server that runs here: development's, if only that has made a secret."""
    kept = settings.instance_folder(os.environ) / settings.DEV_SECRET
    # An app's terminal has a token where an operator's has a key, and nothing that runs here asks a provider.
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    config = settings.load(environ, dev=kept.is_file())
    if kept.is_file() and kept.read_text(encoding="utf-8").strip() == config["AIPIPE_SECRET"]:
        click.echo(f"AIPIPE_SECRET is not set: using the one of `aipipe dev`, {kept}.", err=True)
    return config


def dollars(nano: int) -> str:
    return f"${show(nano)}"


def print_csv(days: list[Day]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["email", "date", "cost"])
    out.writerows([harmless(day.email), day.date, show(day.cost)] for day in days)


def spent_in_window(ledger: Ledger, email: str, budget: Budget) -> str:
    spent = ledger.spent(email, budgets.window_start(datetime.now(UTC).date(), budget.days))
    return f"{dollars(spent)} of {described(budget)}"


def described(budget: Budget) -> str:
    days = "today" if budget.days == 1 else f"in {budget.days} days"
    models = "" if budget.models is None else f", only {', '.join(budget.models) or 'no model'}"
    rpm = "" if budget.rpm is None else f", {budget.rpm} requests a minute"
    return f"{dollars(budget.limit)} {days}{models}{rpm}"


def attempt(make: Callable[[], Made], problems: list[str]) -> Made | None:
    """What `make` gives; if it can't, None, and one more problem."""
    try:
        return make()
    except (ConfigError, AppError) as error:
        problems.append(str(error))
        return None


def ledger_answers(url: str) -> bool:
    with closing(open_ledger(url)) as ledger:
        ledger.ping()
    return True


def where_counted(redis: str | None) -> str:
    """Where limits a minute are counted. Raises ConfigError for a Redis that can't be."""
    if redis is None:
        return "in the ledger's database"
    store = connect(redis)
    with closing(store.storage):
        return f"in Redis, which {'answers' if store.check() else 'does not answer: the ledger counts meanwhile'}"


def seen_as(config: Mapping[str, Any]) -> str:
    """By which address and name we are called."""
    hops, https = config["TRUSTED_PROXIES"], str(config["AIPIPE_PUBLIC_URL"]).startswith("https:")
    if hops == 0 and https:
        return "https, but TRUSTED_PROXIES=0: all callers share an address, and cookies aren't Secure; better 1"
    return f"behind {hops} reverse {'proxy' if hops == 1 else 'proxies'}" if hops else "directly"


def sign_in(client_id: str | None) -> str:
    """How people sign in on the pages."""
    if client_id is None:
        return "off: nobody can sign in on the pages; GOOGLE_CLIENT_ID turns it on"
    wrong = f", but GOOGLE_CLIENT_ID doesn't end in {settings.CLIENT_IDS}: copy it again"
    return f"Google{'' if client_id.endswith(settings.CLIENT_IDS) else wrong}"


def overview(
    config: Mapping[str, Any], registry: Registry | None, limits: Budgets | None, *, ledger: bool, counted: str
) -> list[tuple[str, str]]:
    """What is on and what is off, without any secret."""
    size = len((config["AIPIPE_SECRET"] or "").encode())
    better = "" if size >= settings.GOOD_SECRET_BYTES else f"; better {settings.GOOD_SECRET_BYTES}"
    database = config["AIPIPE_DATABASE_URL"].rpartition("@")[2].partition("?")[0]  # no user, no password
    lines = [
        ("Instance", str(config["INSTANCE_FOLDER"])),
        ("Secret", f"{size} bytes{better}" if size else "missing"),
        ("Sign-in", sign_in(config["GOOGLE_CLIENT_ID"])),
        ("Admins", ", ".join(config["ADMIN_EMAILS"]) or "none; ADMIN_EMAILS names them"),
        ("Ledger", f"{database} {'answers' if ledger else 'does not answer'}"),
        ("Limits a minute", counted),
        ("Reached", seen_as(config)),
        ("/proxy", "on, for anybody" if config["PROXY"]["enabled"] else "off"),
        ("/metrics", "on" if config["METRICS_TOKEN"] else "off; METRICS_TOKEN turns it on"),
    ]
    for name, provider in (registry or {}).items():
        on = provider.key or provider.key_variable is None
        lines.append(("Provider", f"{name} {'on' if on else f'off; {provider.key_variable} turns it on'}"))
    for key, budget in (limits.by_key if limits else {}).items():
        lines.append(("Budget", f"{key} {described(budget)}"))
    return lines
