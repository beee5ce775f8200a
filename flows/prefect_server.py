"""Which Prefect server the user works with, if any, and whether it answers; prefect itself is not imported here.

Importing prefect takes over a second, and a server that is down costs a minute and a traceback when the flow
finds out. Both questions are answered by reading one small file and sending one request.
"""

from __future__ import annotations

import json
import os
import ssl
import tomllib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from tracesift.catalog.schema import BadInput

SETTING = "PREFECT_API_URL"
PATIENCE = 5.0
"""Seconds that a server has to answer one request for its health."""


def named_server() -> str | None:
    """Return the URL of the server that the environment or the active Prefect profile names, or None.

    The environment wins, as it does for Prefect; set to nothing, it turns a profile's server off.
    """
    if SETTING in os.environ:
        return os.environ[SETTING] or None
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    if not path.exists():
        return None
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML ({error}); repair it, or set {SETTING}") from None
    active = os.environ.get("PREFECT_PROFILE") or known.get("active")
    return known.get("profiles", {}).get(active, {}).get(SETTING) or None


def check_answers(server: str) -> None:
    """Refuse a server that does not answer, in one line, before anything waits for it.

    Raises
    ------
    BadInput
        When nothing answers within `PATIENCE`, or what answers is no Prefect API.
    """
    way_out = f"start it (`prefect server start`), or run without Prefect: `env {SETTING}= tracesift ...`"
    if urlsplit(server).scheme not in ("http", "https"):
        raise BadInput(
            f"{SETTING} is '{server}', which is no http address; give e.g. http://127.0.0.1:4200/api"
        )
    try:
        with urlopen(f"{server.rstrip('/')}/health", timeout=PATIENCE) as answer:
            if _is_true(answer.read(1000)):
                return
            found = "something that is no Prefect API"
    except HTTPError as error:
        # A server that wants a key is there all the same, and so is the cloud, which has no such page.
        if error.code in (401, 403) or str(urlsplit(server).hostname).endswith(".prefect.cloud"):
            return
        found = f"HTTP status {error.code}"
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # it answers; which certificates to trust is told to Prefect, not to us
        raise BadInput(f"the Prefect server {server} does not answer ({reason}); {way_out}") from None
    raise BadInput(f"{server} answers with {found}; a Prefect server's address ends in /api; {way_out}")


def _is_true(body: bytes) -> bool:
    try:
        return json.loads(body) is True
    except ValueError:
        return False
