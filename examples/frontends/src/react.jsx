import { StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";

import { connect, withMessage } from "./connection.js";
import "./board.css";

/** Return the state of the session, the notes of the board, and a function that sends a note. */
function useBoard() {
  const [state, setState] = useState("connecting");
  const [notes, setNotes] = useState([]);
  const connection = useRef(null);

  useEffect(() => {
    connection.current = connect({
      onState: setState,
      onMessage: (text) => setNotes((shown) => withMessage(shown, text)),
    });
    // React calls this when the component goes, and once more in StrictMode: a session must not stay open.
    return () => connection.current.close();
  }, []);

  return { state, notes, send: (text) => connection.current.send(text) };
}

function Board() {
  const { state, notes, send } = useBoard();
  const [text, setText] = useState("");

  function submit(event) {
    event.preventDefault();
    if (text.trim() && send(text)) setText("");
  }

  return (
    <main>
      <h1>Board</h1>
      <p className="state" data-state={state}>{state}</p>
      <ul>{notes.map((note) => <li key={note.number}>{note.text}</li>)}</ul>
      <form onSubmit={submit}>
        <input value={text} onChange={(event) => setText(event.target.value)} maxLength={200} aria-label="Note" />
        <button disabled={state !== "open"}>Add</button>
      </form>
    </main>
  );
}

createRoot(document.getElementById("app")).render(<StrictMode><Board /></StrictMode>);
