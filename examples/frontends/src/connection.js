import { Socket } from "engine.io-client";

const LONGEST_DELAY = 10_000;

/** How many notes a page shows, as many as the server keeps. */
const NOTES = 50;

/** Return the notes to show after a message: those that were shown, and what the server sent. */
export function withMessage(notes, text) {
  const message = JSON.parse(text);
  return (message.all ?? [...notes, message.note]).slice(-NOTES);
}

/**
 * Keep a session open, and open a new one when it closes: Engine.IO's client does not reconnect by itself.
 *
 * @param {{ onState: (state: "connecting" | "open") => void, onMessage: (text: string) => void }} handlers
 * @returns {{ send: (text: string) => boolean, close: () => void }} `send` returns false without an open session.
 */
export function connect({ onState, onMessage }) {
  let socket;
  let timer;
  let delay = 0;

  function open() {
    onState("connecting");
    // No address: the page's own host, under /engine.io/.
    socket = new Socket();
    socket.on("open", () => {
      delay = 0;
      onState("open");
    });
    socket.on("message", onMessage);
    socket.on("close", () => {
      // Each attempt waits longer, by a random amount: clients do not all return in the same moment.
      delay = Math.min(LONGEST_DELAY, 2 * delay + 200);
      timer = setTimeout(open, delay * (0.5 + Math.random() / 2));
      onState("connecting");
    });
  }

  open();
  return {
    send(text) {
      if (socket.readyState !== "open") return false;
      socket.send(text);
      return true;
    },
    close() {
      socket.off();
      socket.close();
      clearTimeout(timer);
    },
  };
}
