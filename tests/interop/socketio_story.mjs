// What an application does with a stock socket.io-client, of 4.x or 2.x, in Node.js or in a page: one story that calls
// for everything a client can do, against the application in tests/kit/socketio_story.py.

// Under Node.js its own kind of binary data: of that, both parsers know.
const binary = (values) => (globalThis.Buffer ? Buffer.from(values) : Uint8Array.from(values).buffer);
const bytes = (...values) => binary(values);

// Binary data is told as {binary: [its bytes]}, whatever a client makes of it.
export function pack(value) {
  if (value instanceof ArrayBuffer) return { binary: [...new Uint8Array(value)] };
  if (ArrayBuffer.isView(value)) return { binary: [...value] };
  if (Array.isArray(value)) return value.map(pack);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, pack(each)]));
}

// The differences between the clients. `io` is what the package exports.
export function manage(io, url, options) {
  // Only 2.x has this property: the revision of the protocol.
  const isOld = io.protocol === 4;
  const manager = new io.Manager(url, { path: "/socket.io", reconnectionDelay: 20, reconnectionDelayMax: 50, ...options });
  return {
    manager,
    // Joins a namespace. 2.x knows no `auth`: it has a query for each namespace but `/`.
    join: (namespace, auth) => manager.socket(namespace, isOld ? { query: auth } : { auth }),
    tryAgain(socket, auth) {
      socket[isOld ? "query" : "auth"] = auth;
      socket.connect();
    },
    // What the server says when it refuses.
    refused: (socket) =>
      new Promise((resolve) =>
        socket.once(isOld ? "error" : "connect_error", (error) =>
          resolve(isOld ? error : { message: error.message, data: error.data }),
        ),
      ),
  };
}

const until = (condition) =>
  new Promise((resolve) => {
    const look = () => (condition() ? resolve() : setTimeout(look, 10));
    look();
  });
const once = (socket, event) => new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
const ask = (socket, ...args) => new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer)));

// Returns what the application noticed, by the name of what it did.
export async function story(io, url, options) {
  const noticed = {};
  const { manager, join, refused, tryAgain } = manage(io, url, options);

  const main = join("/", { token: "mine" });
  const [hello] = await Promise.all([once(main, "hello"), once(main, "connect")]);
  noticed.hello = [hello[0] === main.id, ...hello.slice(1)];

  main.emit("echo", null, true, 0, -1.5, "é € 😀 \u2028 \\ \" \x00", "", { a: [1, { b: null }], ä: {} }, []);
  noticed.values = pack(await once(main, "echoed"));
  main.emit("echo", bytes(0, 255), { deep: [bytes(), "text", { er: bytes(1) }] });
  noticed.binary = pack(await once(main, "echoed"));
  noticed.large = await largeComesBack(main);

  noticed.answer = pack(await ask(main, "ask", 1, bytes(2), "three"));
  noticed.answerOfNothing = await ask(main, "nothing");

  main.once("question", (text, binary, answer) => answer(`${text} yes`, binary));
  noticed.answered = pack(await ask(main, "ask me", bytes(7, 8)));

  noticed.inOrder = await areInOrder(main);

  if (options.transports.length > 1) await until(() => manager.engine.transport.name === "websocket");
  noticed.transport = manager.engine.transport.name;

  const unknown = join("/unknown");
  noticed.unknown = await refused(unknown);
  unknown.close();
  const admin = join("/admin", { token: "wrong" });
  noticed.refused = await refused(admin);
  tryAgain(admin, { token: "secret" });
  const room = join("/rooms/7");
  const [[id, auth], [roomId]] = await Promise.all([once(admin, "hello"), once(room, "hello")]);
  noticed.namespaces = [id === admin.id, auth, roomId === room.id, new Set([main.id, admin.id, room.id]).size];
  noticed.askedElsewhere = pack(await Promise.all([main, admin, room].map((each) => ask(each, "ask", each.nsp, bytes(9)))));

  noticed.volatile = await volatileComes(main);
  noticed.said = await speaksToOthers(io, url, options, main);

  admin.disconnect();
  noticed.goesOn = await ask(main, "ask", "without admin");
  const again = once(admin, "hello");
  admin.connect();
  noticed.backAgain = [(await again)[0] === admin.id];

  admin.emit("throw me out");
  noticed.thrownOut = [...(await once(admin, "disconnect")).slice(0, 1), ...(await ask(main, "ask", "still here"))];

  room.disconnect();
  const gone = once(main, "disconnect");
  main.disconnect();
  noticed.left = (await gone).slice(0, 1);
  // A manager closes the session with its last socket.
  await until(() => manager.engine.readyState === "closed");
  return noticed;
}

// 100 000 bytes, and as much text.
async function largeComesBack(socket) {
  const sent = new Uint8Array(100_000).map((_, index) => index % 251);
  const text = "0123456789€".repeat(10_000);
  const [backText, backBinary] = await ask(socket, "ask", text, binary(sent));
  const { binary: back } = pack(backBinary);
  return [backText === text, back.length === sent.length && back.every((each, index) => each === sent[index])];
}

// Events with and without binary data, sent in one go, and their answers.
async function areInOrder(socket) {
  const numbers = [...Array(60).keys()];
  const answers = await Promise.all(
    numbers.map((number) => ask(socket, "ask", number % 3 ? number : bytes(number), number)),
  );
  const heard = (await ask(socket, "heard"))[0];
  return [answers.every(([, number], index) => number === index), heard.join() === numbers.join()];
}

// A volatile event comes as soon as it need not wait.
async function volatileComes(socket) {
  const came = once(socket, "volatile");
  const timer = setInterval(() => socket.emit("volatile"), 30);
  const args = await came;
  clearInterval(timer);
  return args;
}

// Others in the room hear it, the speaker doesn't; then the server ends the other's session.
async function speaksToOthers(io, url, options, main) {
  const { join } = manage(io, url, { ...options, forceNew: true });
  const other = join("/");
  await once(other, "hello");
  await Promise.all([ask(main, "join", options.name), ask(other, "join", options.name)]);
  const heard = [];
  main.on("said", (...args) => heard.push("the speaker"));
  other.on("said", (...args) => heard.push(...pack(args)));
  const said = once(other, "said");
  main.emit("say", options.name, "hi", bytes(1, 2));
  await said;
  await ask(main, "ask");
  other.emit("end my session");
  heard.push((await once(other, "disconnect"))[0]);
  return heard;
}
