"""The services that run workers: that of the command, and that for applications which embed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from ..ends import attemptLater
from ..operation.application import cannotListen, commandEndpoint, endCommand, onNextSignal, sayWhatIsServed
from ..operation.commandline import CommandFailed, Options
from ..operation.configuration import CommandLineSettings, ConfigurationError
from ..operation.service_options import AUTO, MAX_WORKERS, ServiceOptions
from ..operation.toml import asToml
from ..protocol.errors import OptionError
from ..protocol.options import ServerOptions
from ..protocol.validators import checkNames
from ..web.access_log import absolute
from ..web.descriptions import urlOf
from ..web.ports import Ports
from ..web.site import Site
from .cpus import countOfWorkers
from .inherited import RecordingReactor, openPort
from .operators import WorkersObserver, operatorsPages
from .parent import Parent
from .process import Generation
from .slots import Patience


def _generation(settings: CommandLineSettings) -> Generation:
    service, server = settings.options()
    hang = service.workersHangTimeout
    patience = Patience(
        start=service.workersStartTimeout / 1000,
        hang=None if hang is None else hang / 1000,
        drain=server.drainTimeout / 1000,
    )
    return Generation(settings.text(), settings.fixed(), patience)


class ServingParent(Parent):
    """
    A parent whose workers serve what settings say.

    @param settings: the settings, which say how many workers there are.
    @param reactor: the reactor.
    @raise CommandFailed: an endpoint is none.
    """

    def __init__(self, settings: CommandLineSettings, reactor: Any) -> None:
        self._settings = settings
        service, _ = settings.options()
        assert service.workers is not None
        self._service = service
        accessLog = None if service.accessLog is None else absolute(service.accessLog)
        super().__init__(reactor, countOfWorkers(service.workers), _generation(settings), accessLog)
        self._recording = RecordingReactor(reactor)
        self._endpoints = [(f"--listen {each}", commandEndpoint(self._recording, each)) for each in service.listen]
        self._open: list[IListeningPort] = []
        self._isOpening = False
        self._late: str | None = None
        self._operators = WorkersObserver(self.count, self.clock, service.metrics is not None)
        self.observers.append(self._operators)
        self._inside = self._placesInside()
        self._portsInside: list[Ports] = []

    def _placesInside(self) -> list[tuple[str, Any, Site]]:
        """Return the places of the pages for operators, each with the flag that names it."""
        places: dict[str, tuple[str, Resource]] = {}
        for flag, where, names in (
            ("metrics", self._service.metrics, ("metrics",)),
            ("health", self._service.health, ("health", "ready")),
        ):
            # The pages at the ports of the sessions are the workers'.
            if where is None or where == "listen":
                continue
            _, there = places.setdefault(where, (f"--{flag} {where}", Resource()))
            for name, page in operatorsPages(self._operators.operators.answer, self.clock, *names).items():
                there.putChild(name, page)
        made = []
        for where, (what, resource) in places.items():
            site = Site(resource, reactor=self.reactor)
            site.takesBodies = False
            made.append((what, commandEndpoint(self.reactor, where, what), site))
        return made

    def openPorts(self) -> str | None:
        """Open the ports of the sessions, and those for operators."""
        self._isOpening = True
        for what, endpoint in self._endpoints:
            openPort(self._recording, endpoint).addCallback(self._open.append).addErrback(self._notOpened, what)
        inside, self._inside = self._inside, []
        for what, endpoint, site in inside:
            ports = Ports(site, isLast=True)
            self._portsInside.append(ports)
            listening = ports.listen(endpoint).addCallback(partial(self._listeningInside, site=site))
            listening.addErrback(self._notOpened, what)
        self._isOpening = False
        if self._late is None and len(self._open) < len(self._endpoints):
            names = ", ".join(what for what, _ in self._endpoints)
            return f"{names}: workers can't inherit a port that is opened later"
        return self._late

    def _notOpened(self, failure: Failure, what: str) -> None:
        problem = cannotListen(failure, what)
        if self._isOpening:
            self._late = self._late or problem
        elif self._stopped is None:
            self._log.failure("{problem}", failure, problem=problem)
            self.failedLater(problem)

    def _listeningInside(self, port: IListeningPort, site: Site) -> None:
        paths = ", ".join(sorted(f"/{name.decode()}" for name in site.resource.listNames()))
        self._log.info("For operators: {paths} at {where}", paths=paths, where=urlOf(port))

    def inherited(self) -> tuple[Sequence[int], Any]:
        """Return the descriptors of the ports, and what each was opened as."""
        opened = self._recording.opened
        return [each.fileno() for each in opened], [each.description for each in opened]

    def closePorts(self) -> Deferred[Any]:
        """Close the ports of the sessions; those of workers close as they drain."""
        self._operators.operators.isStopping = True
        ports, self._open = self._open, []
        return DeferredList([attemptLater(each.stopListening) for each in ports])

    def closeLast(self) -> Deferred[Any]:
        """Close the ports for operators."""
        inside, self._portsInside = self._portsInside, []
        return DeferredList([each.close(0.0) for each in inside])

    def readAnew(self) -> Generation:
        """
        Read the file anew, and check it with the flags.

        @raise ConfigurationError: something is wrong with it.
        """
        self._settings = self._settings.reread()
        return _generation(self._settings)

    def serves(self, what: str, path: str) -> None:
        """Log where sessions are served."""
        for each in self._open:
            self._log.info("{what} is served at {where}{path}/", what=what, where=urlOf(each), path=path)


class WorkersCommand(ServingParent):
    """
    What the command runs if it has workers.

    @param options: the command line.
    @param reactor: the reactor.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        self._twistd: Any = getattr(options, "parent", None) or {}
        super().__init__(options.given, reactor)

    def privilegedStartService(self) -> None:
        """Open the access log and the ports, before privileges are shed."""
        if not self._isOpen:
            sayWhatIsServed(self._service, self._log)
        super().privilegedStartService()

    def failedToStart(self, problem: str) -> NoReturn:
        """
        End the command, under twistd as that expects it.

        @raise CommandFailed: in the foreground.
        @raise OSError: in the background.
        """
        endCommand(problem, self._twistd, self._log)

    def failedLater(self, problem: str) -> None:
        """Log what has failed, and end the process."""
        self._log.critical("{problem}", problem=problem)
        self.hasFailed = True
        self.reactor.callWhenRunning(self.reactor.stop)

    def hurryOnSignal(self) -> None:
        """Let another SIGTERM or Ctrl-C end the wait."""
        onNextSignal(self.reactor, self.hurry)


class WorkersService(ServingParent):
    """
    Workers as a service, such as a child of a C{MultiService}: what C{twistd engineio --workers} runs.

    Each worker is a process of its own, in which the application is imported and called once with its L{Server}.

    @param app: the application by its name, C{module:callable}.
    @param endpoints: port numbers, for all interfaces, or descriptions of endpoints.
    @param workers: how many, 1 to 256; or C{"auto"}: one for each CPU.
    @param reactor: the reactor; by default the running one.
    @param options: as in L{ServerOptions}, and the settings of the command such as C{workersHangTimeout} and
        C{accessLog}: plain data. An object is given by its name, C{module:attribute}.
    @raise OptionError: an option is unknown, of a wrong type, out of range, or an object; or an endpoint is none.
    """

    def __init__(
        self,
        app: str,
        *endpoints: int | str,
        workers: int | str = AUTO,
        reactor: Any = None,
        **options: Any,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        if workers is None:
            raise OptionError("workers", workers, f"expected a whole number from 1 to {MAX_WORKERS}, or {AUTO}")
        given = {"app": app, "workers": workers, **options}
        if endpoints:
            given["listen"] = [str(each) if type(each) is int else each for each in endpoints]
        checkNames(given, ServiceOptions, ServerOptions)
        content = "".join(f"{name} = {_asToml(name, each)}\n" for name, each in given.items())
        try:
            super().__init__(CommandLineSettings.fromToml(content), reactor)
        except ConfigurationError as error:
            # That names an option as the command does.
            raise error.__cause__ or error from None
        except CommandFailed as error:
            raise OptionError("endpoints", endpoints, error.problem) from error


def _asToml(name: str, value: Any) -> str:
    """
    Return an option as TOML.

    @raise OptionError: it is no plain data.
    """
    if isinstance(value, Mapping) and all(isinstance(each, str) for each in value):
        below = ", ".join(f"{asToml(key)} = {_asToml(f'{name}.{key}', each)}" for key, each in value.items())
        return f"{{{below}}}"
    for each in value if isinstance(value, list | tuple) else (value,):
        if each is not None and not isinstance(each, bool | int | float | str | datetime):
            raise OptionError(name, value, "expected plain data, or the name of an object: module:attribute")
    return asToml(value)
