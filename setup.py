"""Metadata and contents of the distribution; the tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Return the version that the package says it has."""
    text = (HERE / "engineio_twisted" / "__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall('^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return found


def description() -> str:
    """Return the README without its relative links, which lead nowhere on a page of a package index."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"\1", text)


setup(
    name="engineio_twisted",
    version=version(),
    description="Engine.IO and Socket.IO servers for Twisted: WebSocket and HTTP long-polling, rooms, acknowledgements",
    long_description=description(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["engineio_twisted", "engineio_twisted.*"]), "twisted.plugins"],
    # Outside of the package: pytest imports it in whatever it runs, and the package is to be imported by who uses it.
    py_modules=["pytest_engineio_twisted"],
    entry_points={
        "console_scripts": ["engineio-twisted = engineio_twisted.operation.run:main"],
        "pytest11": ["engineio_twisted = pytest_engineio_twisted"],
    },
    package_data={"engineio_twisted": ["py.typed"]},
    install_requires=[
        "twisted>=26.4",
        "autobahn[twisted]>=26.10.1",
        "attrs>=23.2",
        "zope.interface>=6.2",
    ],
    extras_require={
        # What an endpoint description that starts with "tls:" needs.
        "tls": ["twisted[tls]>=26.4"],
        # What twisted.web's own site needs to speak HTTP/2.
        "http2": ["twisted[http2]>=26.4"],
        # What the WebSocket engine in engine_twisted needs.
        "wsproto": ["twisted[websocket]>=26.10", "wsproto>=1.2"],
        # What engineio_twisted.operation.metrics needs.
        "metrics": ["prometheus_client>=0.20"],
        # What engineio_twisted.redis and engineio_twisted.socketio.redis need, to connect several processes.
        "redis": ["txredisapi>=1.6"],
        # What the option parser="msgpack" of engineio_twisted.socketio needs.
        "msgpack": ["msgpack>=1.0.5"],
    },
    keywords=[
        "engine.io",
        "engineio",
        "socket.io",
        "socketio",
        "twisted",
        "websocket",
        "long-polling",
        "real-time",
        "server",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Framework :: Pytest",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        # Only what CI runs.
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
