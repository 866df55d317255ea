"use strict";

const LINES = 50; // what the page shows

const socket = io();
const state = document.getElementById("state");
const headlines = document.getElementById("headlines");
const chosen = new Set(); // topics

socket.on("disconnect", () => (state.textContent = "connection lost, trying again…"));

socket.on("topics", (topics) => {
  state.textContent = "connected";
  // A new connection is in no room yet.
  for (const each of chosen) socket.emit("follow", each);
  document.getElementById("topics").replaceChildren(...topics.map(choice));
});

socket.on("headline", (topic, text) => {
  const line = document.createElement("li");
  const label = document.createElement("b");
  label.textContent = topic;
  line.append(label, text);
  headlines.prepend(line);
  while (headlines.children.length > LINES) headlines.lastElementChild.remove();
});

function choice(topic) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: chosen.has(topic) });
  box.addEventListener("change", () => {
    box.disabled = true;
    if (box.checked) chosen.add(topic);
    else chosen.delete(topic);
    // Acknowledged: from here on the reader is in the room, or isn't.
    socket.emit(box.checked ? "follow" : "unfollow", topic, () => (box.disabled = false));
  });
  label.append(box, ` ${topic}`);
  return label;
}
