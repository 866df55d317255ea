"use strict";

// Text of other people goes into the page through textContent, never as HTML.

const LINES = 500; // what the page keeps of the conversation
const RETRY = { first: 500, most: 5000 }; // ms between attempts to connect

const at = (id) => document.getElementById(id);

let socket = null;
let attempts = 0;
let me = null; // { name, key }: kept over a lost connection, to take the same name again
let lastTime = 0; // of the newest message on the page; the history after a reconnection starts after it
let following = true; // the end of the conversation; not while somebody has scrolled up to read
let lastText = ""; // sent, and not yet seen to come back

// --- the connection

function connect() {
  showState("connecting", "connecting…");
  socket = eio();
  socket.on("open", () => {
    attempts = 0;
    showOpen();
    if (me) request({ type: "join", ...me });
  });
  socket.on("upgrade", showOpen);
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    // What people say may still arrive after one has left. And hasOwn, as `receive["constructor"]` is a function too.
    const wanted = me || message.type === "welcome" || message.type === "error";
    if (wanted && Object.hasOwn(receive, message.type)) receive[message.type](message);
  });
  socket.on("close", retry);
}

function retry() {
  const delay = Math.min(RETRY.first * 2 ** attempts++, RETRY.most);
  // Up to half as long again, at random. Otherwise all pages would reconnect to a restarted server at the same moment.
  const wait = delay * (1 + Math.random() / 2);
  showState("lost", "connection lost, trying again…");
  setTimeout(connect, wait);
}

function request(message) {
  socket.send(JSON.stringify(message));
}

function showOpen() {
  showState("open", `connected (${socket.transport.name})`);
}

function showState(state, text) {
  const open = state === "open";
  at("state").dataset.state = state;
  at("state").textContent = text;
  at("room").classList.toggle("offline", !open);
  for (const id of ["join", "send"]) at(id).disabled = !open;
}

// --- what the server says, by type of message

const receive = {
  welcome({ name, key, members, history }) {
    const again = me !== null;
    me = { name, key };
    at("members").replaceChildren();
    members.forEach(addMember);
    history.filter((said) => said.time > lastTime).forEach(receive.said);
    showRoom(true);
    if (again) addNotice("You are back");
    giveBack(); // what was on its way when the connection broke, unless the history has just shown it
  },

  joined({ name, time }) {
    addMember(name);
    addNotice(name, "joined", time);
  },

  left({ name, time }) {
    findMember(name)?.remove();
    showCount();
    addNotice(name, "left", time);
  },

  said({ name, text, time }) {
    lastTime = time;
    const mine = name === me.name;
    if (mine) lastText = "";
    addLine(
      element("li", { className: mine ? "said mine" : "said" }, [
        avatar(name),
        element("header", {}, [element("bdi", { className: "name", textContent: name }), clock(time)]),
        element("p", { className: "text", dir: "auto", textContent: text }),
      ]),
    );
  },

  replaced() {
    leave("You have joined from another place; this page has left the room.");
  },

  error({ code, message }) {
    if (code.startsWith("name-") || code === "room-full") {
      // Also when the name was free until the connection was lost: then it has to be chosen anew.
      leave(message);
      return;
    }
    at("room-error").textContent = message;
    giveBack();
  },
};

// --- what the person does

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  at("door-error").textContent = "";
  at("join").disabled = true; // until the answer: the second of two quick clicks would be an error
  request({ type: "join", name: at("name").value });
});

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (at("send").disabled || !at("text").value.trim()) return;
  at("room-error").textContent = "";
  lastText = at("text").value;
  at("text").value = "";
  request({ type: "say", text: lastText });
});

at("text").addEventListener("keydown", (event) => {
  // Shift+Enter is a new line; and the Enter that ends the input of a Chinese or Japanese word is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});

at("leave").addEventListener("click", () => {
  if (socket.readyState === "open") request({ type: "leave" });
  leave("");
});

// --- the page

function leave(explanation) {
  const name = me?.name ?? at("name").value;
  me = null;
  showRoom(false);
  at("join").disabled = socket.readyState !== "open";
  at("name").value = name;
  at("name").select();
  at("door-error").textContent = explanation;
}

function giveBack() {
  if (!at("text").value) at("text").value = lastText;
  lastText = "";
}

function showRoom(inside) {
  at("door").hidden = inside;
  at("room").hidden = at("leave").hidden = !inside;
  at("door-error").textContent = at("room-error").textContent = "";
  at(inside ? "text" : "name").focus();
  following = true;
  follow();
}

function addMember(name) {
  const parts = [avatar(name), element("bdi", { className: "name", textContent: name })];
  if (name === me.name) parts.push(element("span", { className: "you", textContent: "you" }));
  at("members").append(element("li", {}, parts));
  showCount();
}

function findMember(name) {
  return [...at("members").children].find((item) => item.querySelector(".name").textContent === name);
}

function showCount() {
  at("count").textContent = at("members").children.length;
}

function addNotice(who, what = "", time = Date.now()) {
  const name = element("bdi", { textContent: who });
  addLine(element("li", { className: "notice" }, [name, ` ${what} `, clock(time)]));
}

function addLine(line) {
  at("log").append(line);
  while (at("log").children.length > LINES) at("log").firstElementChild.remove();
  follow();
}

function follow() {
  if (following) at("log").scrollTop = at("log").scrollHeight;
}

at("log").addEventListener("scroll", () => {
  following = at("log").scrollHeight - at("log").scrollTop - at("log").clientHeight < 40;
});
new ResizeObserver(follow).observe(at("log")); // also when a longer message makes the composer grow

function avatar(name) {
  let hue = 0;
  for (const character of name) hue = (hue * 31 + character.codePointAt(0)) % 360;
  const circle = element("span", { className: "avatar", ariaHidden: "true", textContent: [...name][0].toUpperCase() });
  circle.style.setProperty("--hue", hue);
  return circle;
}

function clock(time) {
  const date = new Date(time);
  return element("time", {
    dateTime: date.toISOString(),
    title: date.toLocaleString(),
    textContent: date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
  });
}

function element(tag, properties, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

if (window.eio) {
  connect();
} else {
  showState("lost", "engine.io-client is missing: run “npm ci” in the folder of this example");
}
