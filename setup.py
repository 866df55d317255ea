"""Metadata and contents of the distribution; the tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="engineio_twisted",
    version="0.1.0",
    description="The Engine.IO server for Twisted",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["engineio_twisted", "engineio_twisted.*"]), "twisted.plugins"],
    # Outside of the package: pytest imports it in whatever it runs, and the package is to be imported by who uses it.
    py_modules=["pytest_engineio_twisted"],
    entry_points={"pytest11": ["engineio_twisted = pytest_engineio_twisted"]},
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
        "test": [
            "aiohttp>=3.9",
            "build",
            "coverage[toml]>=7.4",
            "flask>=3",
            "httpx[http2]>=0.27",
            "hypothesis>=6.100",
            "klein>=23.12",
            "markdown-it-py>=3",
            "prometheus_client>=0.20",
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-twisted>=1.14",
            "pytest-xdist>=3.6",
            "python-engineio[client]>=4.9",
            "selenium>=4.20",
            "setuptools>=77",
            "treq>=24.9",
            "twisted[http2,tls,websocket]>=26.4",
            "wheel",
            "wsproto>=1.2",
        ],
        # What leads `make fuzz` by the code that an input reaches; it does without.
        "fuzz": ["atheris>=3"],
        # Bounded above, as below: `make docs` takes warnings for errors.
        "docs": ["furo>=2025.9", "myst-parser>=5,<6", "pydoctor>=25.10,<26", "sphinx>=9,<10"],
        # What `make bench` draws with, and a reactor's loop that it can try.
        "bench": ["matplotlib>=3.8", "uvloop>=0.19"],
        # Bounded above: what is clean for one version of them needn't be for the next.
        "lint": ["mypy>=2.4,<3", "mypy-zope>=1.0.17", "ruff>=0.17,<0.18"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Pytest",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
