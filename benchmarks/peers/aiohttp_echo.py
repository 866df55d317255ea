"""python-engineio on aiohttp: `python aiohttp_echo.py PORT`."""

from __future__ import annotations

import sys

from aiohttp import web
from application import echo

site = web.Application()
echo("aiohttp").attach(site)
web.run_app(site, host="127.0.0.1", port=int(sys.argv[1]))
