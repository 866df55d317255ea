import { useEffect, useReducer } from "react";

import { ask, socket } from "./socket.js";

const TYPING = 4000; // ms that a notice is shown

const NOBODY = { me: "", connected: false, error: "", rooms: [], room: "", members: [], lines: [], typing: [] };

function reduce(state, { type, ...news }) {
  const isHere = news.room === state.room;
  switch (type) {
    case "changed":
      return { ...state, ...news };
    case "away":
      return { ...NOBODY, error: news.error };
    case "entered":
      return { ...state, ...news, typing: [] };
    case "joined":
      return isHere ? { ...state, members: [...state.members, news.name] } : state;
    case "left":
      return isHere ? { ...state, members: state.members.filter((each) => each !== news.name) } : state;
    case "said":
      if (!isHere) return state;
      return { ...state, lines: [...state.lines, news.line], typing: state.typing.filter((each) => each !== news.line.name) };
    case "acknowledged":
      return { ...state, lines: state.lines.map((each) => (each === news.line ? news.by : each)) };
    case "typing":
      return isHere ? { ...state, typing: [...new Set([...state.typing, news.name])] } : state;
    case "typed":
      return { ...state, typing: state.typing.filter((each) => each !== news.name) };
  }
}

/** Return the state of the chat, and what the person can do. */
export function useChat() {
  const [state, tell] = useReducer(reduce, NOBODY);

  useEffect(() => {
    const timers = new Map();
    const listeners = {
      welcome: (me, rooms) => tell({ type: "changed", me, rooms, connected: true, error: "" }),
      rooms: (rooms) => tell({ type: "changed", rooms }),
      joined: (room, name) => tell({ type: "joined", room, name }),
      left: (room, name) => tell({ type: "left", room, name }),
      said: (room, line) => tell({ type: "said", room, line }),
      typing: (room, name) => {
        tell({ type: "typing", room, name });
        clearTimeout(timers.get(name));
        timers.set(name, setTimeout(() => tell({ type: "typed", name }), TYPING));
      },
      // Sent away or refused by the server; otherwise the client connects again.
      disconnect: () => tell(socket.active ? { type: "changed", connected: false } : { type: "away", error: "" }),
      connect_error: (error) => {
        if (!socket.active) tell({ type: "away", error: error.message });
      },
    };
    for (const [event, listener] of Object.entries(listeners)) socket.on(event, listener);
    return () => {
      for (const [event, listener] of Object.entries(listeners)) socket.off(event, listener);
      for (const each of timers.values()) clearTimeout(each);
    };
  }, []);

  // Join the room again with each new connection: the server has forgotten the one before.
  const { connected, room } = state;
  useEffect(() => {
    if (connected) enter(room || "Lobby");
  }, [connected]);

  function enter(name) {
    ask("join", name, (answer, problem) => {
      if (problem) {
        tell({ type: "changed", error: problem });
        return;
      }
      tell({ type: "entered", room: answer.room, members: answer.members, lines: answer.history, error: "" });
      if (room && room !== answer.room) ask("leave", room, () => {});
    });
  }

  function say(text) {
    const line = { name: state.me, text };
    tell({ type: "said", room, line });
    ask("say", room, text, (answer, problem) => {
      tell({ type: "acknowledged", line, by: problem ? { ...line, failed: true } : answer });
      tell({ type: "changed", error: problem ?? "" });
    });
  }

  return { ...state, enter, say, tellTyping: () => socket.volatile.emit("typing", room) };
}
