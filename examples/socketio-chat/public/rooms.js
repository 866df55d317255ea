"use strict";

// Text of other people goes into the page through textContent, never as HTML.

const FIRST_ROOM = "Lobby";
const PATIENCE = 5000; // ms until a message without an acknowledgement counts as not delivered
const TYPING = { tell: 2000, show: 4000 }; // ms between two notices of ours; that one of others is shown
const LINES = 500; // what the page keeps of a room

const at = (id) => document.getElementById(id);

let me = ""; // my name, as long as I am here
let existing = []; // the names of all rooms
let current = ""; // the name of the room that is shown
let toldTyping = 0;
const rooms = new Map(); // those that I am in: name to { members, lines, typing, unread }

// With a key the server knows that it is the same person who comes back, while it still holds the lost connection.
const key = [...crypto.getRandomValues(new Uint32Array(4))].map((each) => each.toString(36)).join("-");

// No address: the page's own host, under /socket.io/. The client connects again by itself.
const socket = io({ autoConnect: false, auth: (say) => say({ name: me, key }) });

// --- the connection

socket.on("welcome", (name, names) => {
  me = name;
  existing = names;
  showState("open", "connected");
  showChat(true);
  for (const each of rooms.size ? [...rooms.keys()] : [FIRST_ROOM]) join(each);
});

socket.on("disconnect", (reason) => {
  // The server has sent it away: another connection came with the same key. Otherwise the client tries again.
  if (reason === "io server disconnect") goAway("You have come in from another place.");
  else if (me) showState("lost", "connection lost, trying again…");
});

socket.on("connect_error", (error) => {
  // Refused by the chat, or no connection, which the client tries again.
  if (!socket.active) goAway(error.message);
  else showState("lost", "no connection, trying again…");
});

/**
 * Send an event, and call a function with what acknowledges it, or with the reason why it failed.
 *
 * No promise: the function is called before the next packet is read, which may be a message to the room just joined.
 */
function ask(event, ...values) {
  const done = values.pop();
  socket.timeout(PATIENCE).emit(event, ...values, (error, answer) => {
    const problem = error ? "The server has not answered." : answer.error?.message;
    at("error").textContent = problem ?? "";
    done(answer, problem);
  });
}

function showState(state, text) {
  at("state").dataset.state = state;
  at("state").textContent = text;
  for (const each of document.querySelectorAll("#chat button, #room")) each.disabled = state !== "open";
}

// --- what the server says

socket.on("rooms", (names) => {
  existing = names;
  render();
});

socket.on("joined", (room, name) => {
  const here = rooms.get(room);
  if (!here) return;
  here.members.add(name);
  addLine(here, { notice: `${name} joined` });
  render();
});

socket.on("left", (room, name) => {
  const here = rooms.get(room);
  if (!here) return;
  here.members.delete(name);
  endTyping(here, name);
  addLine(here, { notice: `${name} left` });
  render();
});

socket.on("said", (room, message) => {
  const here = rooms.get(room);
  if (!here) return;
  endTyping(here, message.name);
  addLine(here, message);
  if (room !== current) here.unread += 1;
  render();
});

socket.on("typing", (room, name) => {
  const here = rooms.get(room);
  if (!here) return;
  endTyping(here, name);
  here.typing.set(name, setTimeout(() => { here.typing.delete(name); render(); }, TYPING.show));
  render();
});

function endTyping(here, name) {
  clearTimeout(here.typing.get(name));
  here.typing.delete(name);
}

function addLine(here, line) {
  here.lines.push(line);
  here.lines.splice(0, here.lines.length - LINES);
}

// --- what the person does

function join(name, isWanted = false) {
  ask("join", name, (answer, problem) => {
    if (problem) return;
    const here = rooms.get(answer.room) ?? { lines: [], typing: new Map(), unread: 0 };
    const seen = Math.max(0, ...here.lines.map((each) => each.time ?? 0));
    const missed = answer.history.filter((each) => each.time > seen);
    // What was said, but not acknowledged before the connection broke, is not shown twice.
    const isMissed = (line) => missed.some((each) => each.name === me && each.text === line.text);
    here.lines = [...here.lines.filter((each) => !(each.failed && isMissed(each))), ...missed];
    here.members = new Set(answer.members);
    rooms.set(answer.room, here);
    if (isWanted || !rooms.has(current)) show(answer.room);
    else render();
  });
}

function show(name) {
  if (!rooms.has(name)) return join(name, true);
  current = name;
  toldTyping = 0;
  rooms.get(name).unread = 0;
  render();
  at("text").focus();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  me = at("name").value;
  at("door-error").textContent = "";
  at("come-in").disabled = true;
  showState("connecting", "connecting…");
  socket.connect();
});

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  join(at("room").value, true);
  at("room").value = "";
});

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const [text, room] = [at("text").value.trim(), current];
  if (!text || at("send").disabled) return;
  const line = { name: me, text, sending: true };
  addLine(rooms.get(room), line);
  at("text").value = "";
  toldTyping = 0;
  render();
  ask("say", room, text, (answer, problem) => {
    Object.assign(line, { sending: false, failed: Boolean(problem) }, problem ? {} : answer);
    if (problem) at("text").value ||= text;
    render();
  });
});

at("text").addEventListener("input", () => {
  if (!at("text").value || Date.now() - toldTyping < TYPING.tell) return;
  toldTyping = Date.now();
  // Volatile: it isn't kept for later while there is no connection.
  socket.volatile.emit("typing", current);
});

at("text").addEventListener("keydown", (event) => {
  // Shift+Enter is a new line; and the Enter that ends the input of a Chinese or Japanese word is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});

at("leave-room").addEventListener("click", () => {
  const room = current;
  ask("leave", room, (_, problem) => {
    if (problem) return;
    rooms.delete(room);
    current = [...rooms.keys()][0] ?? "";
    render();
  });
});

at("leave").addEventListener("click", () => {
  socket.disconnect();
  goAway("");
});

// --- the page

function goAway(explanation) {
  at("name").value = me;
  me = current = "";
  rooms.clear();
  showState("away", "not connected");
  showChat(false);
  at("door-error").textContent = explanation;
}

function showChat(inside) {
  at("door").hidden = inside;
  at("chat").hidden = at("leave").hidden = !inside;
  at("come-in").disabled = false;
  at(inside ? "text" : "name").focus();
}

function render() {
  const here = rooms.get(current) ?? { members: [], lines: [], typing: new Map() };
  at("title").textContent = current;
  at("leave-room").hidden = at("composer").hidden = !rooms.has(current);
  at("rooms").replaceChildren(...existing.map(roomItem));
  at("members").replaceChildren(...[...here.members].sort().map((each) => named("li", each, each === me ? "me" : "")));
  at("log").replaceChildren(...here.lines.map(lineItem));
  at("log").scrollTop = at("log").scrollHeight;
  const typing = [...here.typing.keys()];
  at("typing").textContent = typing.length ? `${typing.join(", ")} ${typing.length > 1 ? "are" : "is"} typing…` : "";
}

function roomItem(name) {
  const button = named("button", name, name === current ? "current" : rooms.has(name) ? "mine" : "");
  button.disabled = !socket.connected;
  button.addEventListener("click", () => show(name));
  const unread = rooms.get(name)?.unread;
  if (unread) button.append(element("span", { className: "unread", textContent: unread }));
  return element("li", {}, [button]);
}

function lineItem(line) {
  if (line.notice) return element("li", { className: "notice", textContent: line.notice });
  const how = line.failed ? "not delivered" : line.sending ? "sending…" : clock(line.time);
  return element("li", { className: line.failed ? "said failed" : line.sending ? "said sending" : "said" }, [
    named("span", line.name, "who"),
    element("span", { className: "text", dir: "auto", textContent: line.text }),
    element("span", { className: "when", textContent: how }),
  ]);
}

function clock(time) {
  return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function named(tag, name, className) {
  return element(tag, { className }, [element("bdi", { className: "name", textContent: name })]);
}

function element(tag, properties, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
