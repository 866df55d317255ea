// A session over HTTP/2, and a WebSocket in a stream of the same connection where the server offers that (RFC 8441).
//
//   node http2.mjs <url> [giveUp]
//
// With giveUp, other requests on the connection are given up meanwhile, in every way that a page may.
//
// No engine.io-client under Node.js does either; browsers do both. Prints what is answered as JSON, one object a line.
import http2 from "node:http2";
import { setImmediate as turn } from "node:timers/promises";

const DEADLINE = 60_000;
const PATH = "/engine.io/?EIO=4&transport=";

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));
const connection = http2.connect(process.argv[2], { rejectUnauthorized: false });

function ask(path, method = "GET", body) {
  return new Promise((resolve, reject) => {
    const stream = connection.request({ ":path": path, ":method": method });
    let status;
    let text = "";
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("data", (data) => (text += data));
    stream.on("end", () => resolve({ status, text }));
    stream.on("error", reject);
    stream.end(body);
  });
}

// Begins a request and gives it up: at once, after a moment, or when its answer begins.
async function giveUp(path, method, body, when) {
  const stream = connection.request({ ":path": path, ":method": method });
  stream.on("error", () => {});
  // One with an answer that nobody takes is never closed.
  stream.resume();
  if (body) {
    stream.write(body);
  } else {
    stream.end();
  }
  const over = new Promise((resolve) => stream.on("close", resolve));
  const cancel = () => stream.close(http2.constants.NGHTTP2_CANCEL);
  if (when === "answer") {
    stream.on("response", cancel);
    // What waits for more of a body isn't answered.
    setTimeout(cancel, 100);
  } else {
    for (let turns = 0; turns < when; turns += 1) {
      await turn();
    }
    cancel();
  }
  await over;
}

setTimeout(() => {
  console.error(`not done after ${DEADLINE / 1000} s`);
  process.exit(1);
}, DEADLINE).unref();

await new Promise((resolve) => connection.once("remoteSettings", resolve));
const opened = await ask(PATH + "polling");
report("answer", opened);
const session = `${PATH}polling&sid=${JSON.parse(opened.text.slice(1)).sid}`;
if (process.argv[3]) {
  let count = 0;
  for (const when of [0, 1, 2, 5, "answer"]) {
    const other = `${PATH}polling&sid=${JSON.parse((await ask(PATH + "polling")).text.slice(1)).sid}`;
    const all = [
      [PATH + "polling", "GET"],
      [`${PATH}polling&sid=unknown`, "GET"],
      [`${PATH}polling&sid=unknown`, "POST", "4hello"],
      ["/page", "GET"],
      [other, "GET"],
      [other, "POST", "4half"],
    ];
    await Promise.all(all.map(([path, method, body]) => giveUp(path, method, body, when)));
    count += all.length;
  }
  report("givenUp", { count });
}
// The poll waits while the message goes out: both have the connection at once.
const polled = ask(session);
report("answer", await ask(session, "POST", "4hello"));
report("answer", await polled);
const { enableConnectProtocol } = connection.remoteSettings;
report("settings", { enableConnectProtocol });
if (enableConnectProtocol) {
  const stream = connection.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "https",
    ":path": PATH + "websocket",
    "sec-websocket-version": "13",
  });
  stream.on("response", (headers) => report("webSocket", { status: headers[":status"] }));
  stream.once("data", (frame) => {
    // A frame of text, of up to 125 bytes: two bytes of head.
    report("frame", { opcode: frame[0] & 15, text: String(frame.subarray(2)) });
    stream.close();
    connection.close();
  });
} else {
  connection.close();
}
