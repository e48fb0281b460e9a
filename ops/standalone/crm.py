"""The sandbox CRM: HubSpot, Salesforce and a webhook as their vendors document them, with a script for bad days.

`python -m ops.standalone.crm --port P --state FILE`, its token in `SANDBOX_CRM_TOKEN`, a webhook's secret in
`SANDBOX_CRM_WEBHOOK_SECRET`. docs/crm.md lists its pages.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from aiohttp import web

from ops.standalone.crm_pages import make_app
from ops.standalone.crm_store import Store, StoreInUse
from ops.standalone.crm_window import Window
from schemas.logs import configure_logging

_STOP_S = 2.0
_TRY_LATER = 75


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.standalone.crm", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="file that keeps all effects")
    # HubSpot Professional and Enterprise, per account.
    parser.add_argument("--limit", type=int, default=190, help="calls in any window; more are answered 429")
    parser.add_argument("--window", type=float, default=10.0, help="length of that window, seconds")
    parser.add_argument("--faults", default="[]", help="the script of bad days to begin with: a JSON list")
    return parser.parse_args()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    configure_logging("sandbox-crm", "info")
    token = os.environ.get("SANDBOX_CRM_TOKEN")
    if not token:
        sys.exit("SANDBOX_CRM_TOKEN is not set: the token that callers must send")
    try:
        store = Store(arguments.state)
    except StoreInUse as error:
        print(error, file=sys.stderr)
        sys.exit(_TRY_LATER)
    secret = os.environ.get("SANDBOX_CRM_WEBHOOK_SECRET")
    app = make_app(store, token, Window(arguments.limit, arguments.window), secret, arguments.faults)
    # No access log: paths name contacts.
    web.run_app(app, host=arguments.host, port=arguments.port, access_log=None, print=None, shutdown_timeout=_STOP_S)


if __name__ == "__main__":
    main()
