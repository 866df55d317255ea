import { StrictMode, useRef, useState } from "react";
import { createRoot } from "react-dom/client";

import { comeIn } from "./socket.js";
import { useChat } from "./useChat.js";
import "./chat.css";

const TYPING = 2000; // ms between two notices

function Field({ label, action, disabled, onChange, onSubmit }) {
  const [text, setText] = useState("");

  function submit(event) {
    event.preventDefault();
    if (!text.trim()) return;
    onSubmit(text);
    setText("");
  }

  function change(event) {
    setText(event.target.value);
    onChange?.();
  }

  return (
    <form onSubmit={submit}>
      <input value={text} onChange={change} maxLength={1000} aria-label={label} placeholder={label} />
      <button disabled={disabled}>{action}</button>
    </form>
  );
}

function Line({ line }) {
  const when = line.time ? new Date(line.time).toLocaleTimeString() : line.failed ? "not delivered" : "sending…";
  return <li><b>{line.name}</b> <span className="text">{line.text}</span> <small>{when}</small></li>;
}

function Chat() {
  const chat = useChat();
  const toldTyping = useRef(0);

  function change() {
    if (Date.now() - toldTyping.current < TYPING) return;
    toldTyping.current = Date.now();
    chat.tellTyping();
  }

  if (!chat.me) {
    return (
      <main>
        <h1>Who are you?</h1>
        <Field label="Your name" action="Come in" onSubmit={comeIn} />
        <p className="error" role="alert">{chat.error}</p>
      </main>
    );
  }
  return (
    <main>
      <h1>{chat.room}</h1>
      <p className="state">{chat.connected ? "connected" : "connecting"}</p>
      <nav>{chat.rooms.map((each) => <button key={each} onClick={() => chat.enter(each)}>{each}</button>)}</nav>
      <Field label="Another room" action="Join" disabled={!chat.connected} onSubmit={chat.enter} />
      <p>Here: <span className="members">{chat.members.join(", ")}</span></p>
      <ol>{chat.lines.map((line, number) => <Line key={number} line={line} />)}</ol>
      <p className="typing">{chat.typing.length > 0 && `${chat.typing.join(", ")}: typing…`}</p>
      <Field label="Message" action="Send" disabled={!chat.connected} onChange={change} onSubmit={chat.say} />
      <p className="error" role="alert">{chat.error}</p>
    </main>
  );
}

createRoot(document.getElementById("app")).render(<StrictMode><Chat /></StrictMode>);
