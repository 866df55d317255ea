"""The interfaces between the rooms of the package: what each side may ask of the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zope.interface import Attribute, Interface

from .protocol.errors import CloseReason, HTTPRefusal
from .protocol.frames import NORMAL
from .protocol.packet import Form, Packet

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    # For sessions too, whose modules import nothing of twisted.web.
    from twisted.web.server import Request as Request

    from .protocol.handshake import WebSocketHandshake


class Closing(NamedTuple):
    """
    Why a session ends, or its transport alone.

    @ivar reason: the reason; None if the session goes on, on another transport.
    @ivar description: the same in more words.
    @ivar deadline: the time, by the clock of the server, until which the client may take what it is sent, on a
        connection that is the transport's own. It isn't sooner than in L{CLOSE_TIMEOUT} seconds.
    @ivar refusal: the response to a request that carried what the session doesn't take any more; None for one that
        says that the session is closing.
    @ivar isByClient: whether the client has closed the session itself, and needs no close packet.
    @ivar isLoss: whether the connection was lost: a session that can be resumed goes on.
    """

    reason: CloseReason | None
    description: str = ""
    deadline: float = 0.0
    refusal: HTTPRefusal | None = None
    isByClient: bool = False
    isLoss: bool = False


LEFT = Closing(None)
"""The session goes on, on another transport."""


class ITransport(Interface):
    """
    How packets get from a session to its client.

    A transport turns packets into bytes with the codec of its client's revision. It knows nothing of sessions but
    what L{ITransportOwner} says, and its owner knows nothing of bytes.
    """

    name: str = Attribute("Its name, as in the query: polling or websocket.")
    writable: bool = Attribute("Whether it can take packets now.")
    isPolled: bool = Attribute(
        "Whether each send answers a poll: it takes the whole buffer, and is not writable any more."
    )
    bufferedAmount: int = Attribute("How many bytes of what it took its connections have not given to the system.")
    arriving: Any = Attribute(
        "What changes with all that comes of a message that isn't complete; None if there is none."
    )
    heldBytes: int = Attribute("How many bytes the client sent that the owner hasn't got, incomplete ones included.")
    isDelivering: bool = Attribute("Whether packets that came wait: for receiving to go on, or for a later turn.")
    owner: Any = Attribute("The L{ITransportOwner} it tells what happens. Set before anything can happen.")

    def send(packets: Sequence[Packet]) -> int:
        """
        Send packets, of at least one, the first of them at least. Only while writable.

        @return: how many were taken: those that come first. If that isn't all, it isn't writable any more.
        """

    def sendMessage(data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        """
        Send a message, as L{send} sends a packet with it.

        @param utf8: text beyond ASCII in UTF-8, if that is at hand.
        """

    def close(closing: Closing, packets: Sequence[Packet] = ()) -> int:
        """
        Send some last packets as far as writable, tell the client that this is the end, and let go of the client.

        If the session goes on on another transport, the client isn't told that anything ended. The owner isn't called
        back for what it did itself.

        @param closing: why. If too much was buffered, a client that doesn't read has no more than L{CLOSE_TIMEOUT}
            seconds to take what it was sent.
        @return: how many of the packets were taken.
        """

    def pauseReceiving() -> None:
        """
        Hold the client back: nothing more is read, and nothing delivered of what was, as far as that can be stopped.

        What has come is kept as it came; so is the end of the client, behind it.
        """

    def resumeReceiving(isDelivered: bool = True) -> None:
        """
        Go on: what is kept is delivered in a later turn of the reactor, and then reading goes on.

        @param isDelivered: whether what was given to the owner meanwhile has reached the application.
        """


class ITransportOwner(Interface):
    """What a transport may call on the session it belongs to."""

    logName: str = Attribute("The name of the session in a log, which its id isn't.")

    def transportReady(transport: ITransport) -> None:
        """Called when the transport has become writable."""

    def transportPacket(transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        """
        Take a packet from the client; never a close packet.

        @return: None if it was taken; otherwise why not, as the response to a request that carried it.
        """

    def transportMessage(transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        """Take a message from the client, as L{transportPacket} takes a packet with it."""

    def transportDelivered(transport: ITransport) -> None:
        """Called when everything that had to wait was delivered."""

    def transportClosed(transport: ITransport, closing: Closing) -> None:
        """Called when the client has left, or broke the protocol, and why. The owner closes the transport."""


class ISessionHost(Interface):
    """What a session knows of the server that it belongs to."""

    server: Any = Attribute(
        "What applications know as C{socket.server}: an L{EventEmitter} that hears flush and drain too."
    )
    opts: Any = Attribute("The L{ServerOptions}.")
    clock: Any = Attribute("The C{IReactorTime} by which everything is timed.")
    counters: Any = Attribute("The L{Counters} that sessions count in.")
    heartbeats: Any = Attribute("The L{Heartbeats} of all sessions.")
    ends: Any = Attribute("The L{Ends} of all sessions.")

    def addressOf(exchange: Any) -> str | None:
        """Return the IP address of the client that sent a request, behind trusted proxies too; None if it has none."""

    def firstMessage(session: Any, data: str | bytes) -> None:
        """Called with the first message of a session if its C{isHeard} was False at the opening."""

    def sessionEnded(socket: Any) -> None:
        """Called once for each session, when it is closed and before its client and the application are told."""


class IWebSocketEngine(Interface):
    """
    What implements WebSocket (RFC 6455): the option C{wsEngine} is a class that implements this.

    A server makes one instance, as C{wsEngine(clock, options)}, with an C{IReactorTime} and its L{ServerOptions}.
    An engine enforces C{maxHttpBufferSize} on each message before it is stored, with the close code 1009, and
    C{perMessageDeflate} if it can.
    """

    supportsPerMessageDeflate: bool = Attribute(
        "Whether it can compress. Of the class: options that ask for it are refused."
    )
    connections: Any = Attribute("The L{Connections} that are WebSockets, until they are lost. Each has an C{abort}.")

    def accept(
        exchange: Any, handshake: WebSocketHandshake, headers: Mapping[str, Sequence[str]], receiver: Any
    ) -> None:
        """
        Take the connection of a request over, by L{IExchange.takeOver}, and make it a WebSocket.

        The 101 is written, then C{receiver.opened} is called, and only then anything is read.

        @param exchange: an L{IExchange}.
        @param handshake: what of the request the 101 depends on, checked.
        @param headers: that the 101 carries besides.
        @param receiver: provides L{IWebSocketReceiver}.
        """


class IWebSocket(Interface):
    """A WebSocket, as an engine gives it to its receiver."""

    isOpen: bool = Attribute("Whether messages can be sent: neither side has begun to close it.")
    writable: bool = Attribute("Whether they can, and the client takes what is sent to it. Asked with each message.")
    bufferedAmount: int = Attribute("How many bytes of what was sent the connection has not given to the system.")
    arriving: Any = Attribute(
        "What changes with all that comes of a message that isn't complete; None if there is none."
    )
    heldBytes: int = Attribute(
        "How many bytes the client sent that its receiver hasn't got, an incomplete message included."
    )
    isDelivering: bool = Attribute(
        "Whether some of them were read and wait: for receiving to go on, or for a later turn."
    )

    def send(payload: bytes, isText: bool, compress: bool, form: Form | None = None) -> None:
        """
        Send a message.

        @param payload: bytes, or text in UTF-8.
        @param isText: which of the two.
        @param compress: whether it may be compressed.
        @param form: of a message that goes to many, what is the same for all of them: an engine may keep in its
            C{made} what it has made of the payload.
        """

    def close(code: int = NORMAL, deadline: float = 0.0) -> None:
        """
        Send a close frame with a code of RFC 6455, 7.4.1, and abort the connection if the client doesn't close it.

        @param deadline: the time for that; it isn't sooner than in L{CLOSE_TIMEOUT} seconds.
        """

    def pauseReceiving() -> None:
        """
        Read no more of what the client sends, and give the receiver nothing more of what was read.

        An engine that can't stop within what was read may still give it the rest of that.
        """

    def resumeReceiving() -> None:
        """Go on reading; what was read and not given to the receiver comes first, in a later turn of the reactor."""


class IWebSocketReceiver(Interface):
    """What an engine calls. After one of the last two only those may be called again, and change nothing."""

    owner: Any = Attribute("The session, which observers get with the number of bytes. None if there is none.")
    counters: Any = Attribute("The L{Counters} that bytes are added to.")

    def opened(webSocket: Any) -> None:
        """Called when there is a WebSocket, which provides L{IWebSocket}."""

    def received(data: str | bytes) -> None:
        """Take a message."""

    def ready() -> None:
        """Called when the WebSocket is writable again."""

    def delivered() -> None:
        """Called when everything that was read and had to wait was given to this."""

    def closed(description: str) -> None:
        """Called when the client has closed the WebSocket, or its connection is lost."""

    def failed(description: str) -> None:
        """Called when the engine has closed the WebSocket, as the client broke the protocol or sent too much."""


class IOpeningReceiver(IWebSocketReceiver):
    """
    What hears of the opening handshake of a client, and then receives on the WebSocket.

    Either C{opened} is called, or one of L{refused}, L{mistaken} and L{unanswered}, or, if the receiver has given up
    before that, none of them.
    """

    def responded(head: Any) -> None:
        """Called with the head of the response, a L{ResponseHead}, before it is looked at further."""

    def refused(head: Any, body: bytes) -> None:
        """Called with a response other than 101, and what came of its body in time."""

    def mistaken(fault: str, head: Any) -> None:
        """
        Called when the response is wrong.

        @param fault: what is wrong with it.
        @param head: of a 101 that is wrong; None if it is no response of HTTP, or its head is too large.
        """

    def unanswered(reason: Failure) -> None:
        """Called when the connection is lost before the head of the response is complete, and why."""

    def gone() -> None:
        """Called when the connection is lost and all that had come is delivered, whatever was called before."""


class IEngineServer(Interface):
    """
    What serves the requests of a server. A L{Server} is one by adaptation: C{IEngineServer(server)}.

    So is a layer on a server whose C{__conform__} adapts that in its place.
    """

    server: Any = Attribute("The L{Server} itself.")
    opts: Any = Attribute("The L{ServerOptions}.")
    reading: Any = Attribute("The L{Connections} of requests whose bodies are being read.")
    counters: Any = Attribute("The L{Counters} of what happens.")
    isClosing: bool = Attribute("Whether it is closing, or has closed.")
    director: Any = Attribute("The L{IRequestDirector} if there are several processes; None otherwise.")

    def handle(exchange: Any, isUpgrade: bool) -> None:
        """
        Answer a request, now or later.

        @param exchange: an L{IExchange} that isn't answered, and whose client isn't gone.
        @param isUpgrade: whether it asks for a WebSocket.
        """

    def refuseEarly(exchange: Any, refusal: HTTPRefusal) -> Coroutine[Any, Any, None]:
        """
        Count a request that is refused before its body is complete, and set the headers of the response.

        The caller writes that, whatever this raises.
        """

    def pushTarget(exchange: Any, method: bytes, uri: bytes) -> Any:
        """Return the L{IPushReceiver} to which a request with a body would deliver it, or None."""


class IRequestDirector(Interface):
    """What says in which process a request is served, and sends it there, if there are several processes."""

    def place(method: bytes, uri: bytes) -> Any:
        """Return the process that serves a request; None if it is this one."""

    def placeOfIdle() -> Any:
        """Return the process to which a connection moves that would be closed here; None if it is closed."""

    def mayMove(place: Any) -> bool:
        """Return whether a connection may move to a process that L{place} has returned."""

    def move(place: Any, released: Any) -> None:
        """
        Send a connection to another process.

        @param place: from L{place}, in the same turn.
        @param released: the connection, a L{Released}, which is sent, or served here after all.
        """

    def takes(exchange: Any, isUpgrade: bool) -> bool:
        """
        Have another process serve a request if that is to.

        @param exchange: an L{IExchange} on a connection that stays here.
        @return: whether it does. Then nothing else may be done about the request.
        """

    def pushReceiver(exchange: Any, method: bytes, uri: bytes) -> Any:
        """Return the L{IPushReceiver} of a session in another process to which a body would go, or None."""


class IPushReceiver(Interface):
    """The transport of a session whose client sends by POST: what it is told while the body of one is read."""

    isReading: bool = Attribute("Whether the body of a POST is being read.")

    def pushStarted(request: Request) -> None:
        """
        Called when the body of a POST begins.

        @raise HTTPRefusal: the body of another is being read. The session has ended.
        """

    def pushEnded(request: Request) -> None:
        """Called when the body is complete."""

    def pushRefused(request: Request, refusal: HTTPRefusal) -> None:
        """Called when the body was refused before it was complete: the session ends. The caller answers."""

    def pushLost(request: Request) -> None:
        """Called when the connection is lost before the body is complete: the session ends."""


class IUnreadAnswer(Interface):
    """A response that the client may not have read yet: what the channel that carries it tells it."""

    isOver: bool = Attribute(
        "Whether another request has come on the connection, or all was read. The channel may set it."
    )

    def read() -> None:
        """Called when the client has taken all that was written to the connection."""


class IExchange(Interface):
    """
    A request and its response, whatever carries them.

    An application never sees one: if it is given a request, or asks for one, that is C{request}.
    """

    request: Any = Attribute(
        "The L{twisted.web.server.Request}: the one that came, or one that is made when it is first asked for. From "
        "then on the response goes through it."
    )
    method: bytes = Attribute("The method, as bytes.")
    uri: bytes = Attribute("The address as it came, as bytes.")
    channel: Any = Attribute("What the request came on: an C{HTTPChannel}, or a L{Stream}. Until it is answered.")
    connection: Any = Attribute("What the response is written to: a transport, or a L{Stream}. Until it is answered.")
    isStream: bool = Attribute("Whether it came on a stream of HTTP/2.")
    isAnswered: bool = Attribute("Whether the request was answered or its client is gone.")
    openedId: str | None = Attribute(
        "The id of the session that the response opens; None if it opens none. May be set."
    )
    client: Any = Attribute("The L{Client} who sent it, once that was found out; None before. May be set.")

    def headerValues(name: bytes) -> Sequence[bytes]:
        """
        Return the values of a header of the request.

        @param name: in lower case.
        """

    def allHeaderValues() -> Mapping[bytes, Sequence[bytes]]:
        """Return the values of all headers of the request, by name in lower case."""

    def bodyUpTo(size: int) -> bytes:
        """Return so many bytes of the body, from its beginning."""

    def getClientAddress() -> Any:
        """Return the address of the other end of the connection."""

    def isSecure() -> bool:
        """Return whether the connection has TLS."""

    def setHeader(name: str, value: str) -> None:
        """
        Set a header of the response, whichever that will be.

        @param name: as it is written.
        """

    def addHeader(name: str, value: str) -> None:
        """Add a header to the response, besides those of the same name."""

    def removeHeader(name: str) -> None:
        """Remove what was set and added of a header of the response."""

    def joinCookies() -> None:
        """Move the cookies that an application has added to the request to the headers of the response."""

    def upgradeHeaders() -> Mapping[str, Sequence[str]]:
        """
        Return the headers of the response so far, without those that a 101 has of its own.

        @return: the values by name, as text for engines, which write it as UTF-8. Not to be changed.
        """

    def respond(status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]) -> bool:
        """
        Answer in one piece, with the headers given, those set before, and the length of the body.

        Answering may serve the next request of the connection before this returns: callers change their state first
        and answer last.

        @param announce: called with this when the headers are set, before they are written.
        @return: whether the system has all of the response.
        """

    def watch(watcher: Any, isWaiting: bool = False) -> None:
        """
        Call a watcher if the connection is lost before the request is answered.

        @param watcher: provides L{IRequestWatcher}.
        @param isWaiting: whether it is a GET that waits until there is something to send: if its client sends nothing
            more, the connection is closed.
        """

    def takeOver(protocol: Any) -> bytes:
        """
        Give the connection to a protocol, of which C{makeConnection} is called, and let go of the channel.

        @return: what the client sent behind its request, without waiting for the response.
        """

    def accepted() -> None:
        """Write the line of the access log for a request whose connection has become a WebSocket."""

    def drop() -> None:
        """Close the connection of a request whose response was begun, and is not going on."""

    def keepLittle() -> None:
        """
        Keep no more of what came than its bytes, as a session keeps its first request as long as it lives.

        What was made of them is made again when it is asked for. What an application has changed stays.
        """


class IRequestWatcher(Interface):
    """Told of requests that are lost."""

    def requestLost(exchange: Any) -> None:
        """Called when the connection of an L{IExchange} is lost before it is answered."""


class IServerExchange(Interface):
    """
    How the processes of one application send to each other what their layers have to say: C{server.exchange}.

    Each process has a number. What one sends, on whatever channels, arrives at each other in the order of the calls, at
    most once, mixed with what others send in any order. Nothing is delivered before the call that sends it has
    returned, nor to the process that sent it. What a process hasn't taken when it ends is lost, and so is what is sent
    while it can't be reached.
    """

    isConnected: bool = Attribute(
        "Whether what is sent reaches the others. False before the start, after the stop, and while what connects the "
        "processes is out of order."
    )
    number: int = Attribute("The number of this process; 0 if it is the only one.")
    peers: Collection[int] = Attribute("The numbers of the other processes that can be sent to now. Each is used once.")
    dropped: int = Attribute(
        "How many frames were dropped that a process had no room for, or couldn't be sent: each once for each process."
    )

    def subscribe(channel: str, deliver: Callable[[int, bytes], object]) -> Callable[[], None]:
        """
        Call a function with each frame that comes on a channel from now on. What came before is lost.

        What the function raises is logged, and stops nothing.

        @param channel: the name of the channel, the same in each process: ASCII, 1 to 255 characters.
        @param deliver: called with the number of the process that sent the frame, and the frame.
        @return: what ends the subscription.
        @raise ValueError: the name is none, or the channel has a subscriber.
        """

    def send(targets: Iterable[int] | None, channel: str, frame: bytes) -> None:
        """
        Send a frame to other processes.

        @param targets: their numbers; None sends it to all others. One that isn't among L{peers}, or is this process,
            gets nothing.
        @param channel: the name of the channel, as for L{subscribe}.
        @param frame: what to send.
        @raise ValueError: the frame is larger than can be sent. Nothing was sent.
        """

    def whenPeersChange(function: Callable[[], object]) -> Callable[[], None]:
        """
        Call a function, without arguments, after each change of L{peers}.

        A process is among them before anything comes from it, and leaves them when nothing comes from it any more.
        What the function raises is logged.

        @return: what ends this.
        """

    def start() -> None:
        """Begin. Called once, by what has made it."""

    def stop() -> Any:
        """
        Send what is left, and end: no process is a peer any more, and nothing is sent or delivered.

        @return: None, or a Deferred that fires when it is over and never fails.
        """
