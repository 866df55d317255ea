import { io } from "socket.io-client";

const PATIENCE = 5000; // ms

const key = [...crypto.getRandomValues(new Uint32Array(4))].map((each) => each.toString(36)).join("-");
const auth = { name: "", key };

/** The one connection of the page. It lives outside of components: they come and go, and it stays. */
export const socket = io({ autoConnect: false, auth });

/** Connect under a name. */
export function comeIn(name) {
  auth.name = name;
  socket.connect();
}

/**
 * Send an event, and call a function with what acknowledges it, or with the reason why it failed.
 *
 * No promise: the function is called before the next packet is read, which may be a message to the room just joined.
 */
export function ask(event, ...values) {
  const done = values.pop();
  socket.timeout(PATIENCE).emit(event, ...values, (error, answer) => {
    done(answer, error ? "The server has not answered." : answer.error?.message);
  });
}
