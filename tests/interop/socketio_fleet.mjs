// Runs a fleet of stock socket.io-clients against several processes, through a network that can be cut, and prints what
// each of them notices.
//
//   node socketio_fleet.mjs <port> <scenario>
//
// What is printed is one JSON object on a line of its own: tests/workers/test_fleets.py compares it. The program ends by
// itself once no client holds anything open any more.
import net from "node:net";
import { Manager } from "socket.io-client";
import { pack } from "./socketio_story.mjs";

const DEADLINE = 60_000;
const WORKERS = 3;
const TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]];

const [port, scenario] = process.argv.slice(2);

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));

const until = (condition) =>
  new Promise((resolve) => {
    const look = () => (condition() ? resolve() : setTimeout(look, 5));
    look();
  });

class Member {
  constructor(index, port) {
    this.name = `client ${index}`;
    this.transports = TRANSPORTS[index % TRANSPORTS.length];
    this.heard = [];
    this.connects = [];
    this.disconnects = [];
    const options = { transports: this.transports, reconnectionDelay: 20, reconnectionDelayMax: 50 };
    this.manager = new Manager(`http://127.0.0.1:${port}`, options);
    const socket = (this.socket = this.manager.socket("/", { auth: { name: this.name } }));
    socket.on("connect", () => this.connects.push([socket.id, socket.recovered]));
    socket.on("disconnect", (reason) => this.disconnects.push(reason));
    // Behind what is said comes, of what is kept for a recovery, its offset: the only text there.
    socket.on("said", (...args) => this.heard.push(pack(args.filter((one, at) => at === 0 || typeof one !== "string"))));
    socket.on("question", (text, data, answer) => answer(`${this.name}: ${text}`, data));
  }

  ask(...args) {
    return new Promise((resolve) => this.socket.emit(...args, resolve));
  }

  // Connected, on the transport on which it stays.
  async settled(times = 1) {
    await until(() => this.connects.length === times && this.socket.connected);
    await until(() => this.manager.engine.transport.name === this.transports.at(-1));
    this.worker = await this.ask("where");
  }

  tell() {
    const { name, worker, connects, disconnects, heard } = this;
    report("member", { name, worker, connects, disconnects, heard });
  }
}

const each = (members, what) => Promise.all(members.map(what));

// The first at each worker.
const oneEach = (members) => members.filter(({ worker }, index) => members.findIndex((one) => one.worker === worker) === index);

// Members that have connected: about `count`, as many as it takes until there is one at each worker.
async function gather(count, port, first = 0) {
  const members = [];
  while (members.length < count || (oneEach(members).length < WORKERS && members.length < 60)) {
    const more = [...Array(3).keys()].map((index) => new Member(first + members.length + index, port));
    await each(more, (one) => one.settled());
    members.push(...more);
  }
  return members;
}

// All connections go through it; while it is down, it cuts each that there is and each that is tried.
function network() {
  const links = new Set();
  const here = { isUp: true };
  const server = net.createServer((client) => {
    if (!here.isUp) return client.resetAndDestroy();
    const inner = net.connect(port, "127.0.0.1");
    const pair = [client, inner];
    links.add(pair);
    pair.forEach((one, index) => {
      const other = pair[1 - index];
      one.on("error", () => other.destroy());
      one.on("close", () => other.end() && links.delete(pair));
      one.setNoDelay(true).pipe(other);
    });
  });
  // Clients that leave connect once more, to say so.
  server.unref();
  here.fail = () => {
    here.isUp = false;
    links.forEach((pair) => pair.forEach((one) => one.destroy()));
  };
  here.listen = () => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
  return here;
}

const scenarios = {
  // Rooms, acknowledgements and what concerns all processes.
  async rooms() {
    const members = await gather(12, port);
    const askers = oneEach(members);
    // In one room is one of each worker, in the other are the rest.
    await each(members, (one) => one.ask("join", "all", askers.includes(one) ? "few" : "many"));
    const answers = [];
    for (const asker of askers) {
      const here = asker.worker;
      await asker.ask("emit", ["all"], [], "all", here, Buffer.from([here, 255]));
      await asker.ask("emit", ["few"], [], "few", here);
      await asker.ask("emit", ["all"], ["few"], "all but few", here);
      await asker.ask("say", "few", "to others", here);
      answers.push({
        worker: here,
        name: asker.name,
        answers: await asker.ask("ask", "all", `asked by ${here}`, Buffer.from([here])),
        few: await asker.ask("who", "few"),
        all: await asker.ask("who", "all"),
        numbers: await asker.ask("numbers"),
      });
      await asker.ask("shout", "shouted", here);
      await asker.ask("move", "many", `moved by ${here}`);
      await asker.ask("emit", [`moved by ${here}`], [], "moved", here);
    }
    // What a worker has sent before, all have when they have this.
    for (const asker of askers) await asker.ask("emit", ["all"], [], "last", asker.worker);
    await each(members, (one) => until(() => one.heard.filter(([text]) => text === "last").length === askers.length));
    await askers[0].ask("end", "many");
    await each(members, (one) => askers.includes(one) || until(() => one.disconnects.length));
    const left = await askers[0].ask("who", "all");
    report("answers", { answers, left });
    await each(askers, (one) => one.socket.disconnect());
    members.forEach((one) => one.tell());
  },

  // The connections of half of them are cut, while those at each worker that stay say something.
  async recovery() {
    const between = network();
    const through = await between.listen();
    const stay = await gather(6, port);
    const lose = await gather(6, through, stay.length);
    const members = [...stay, ...lose];
    await each(members, (one) => one.ask("join", "all"));
    const speakers = oneEach(stay);
    const said = [];
    // The next is said when the last has come to every worker, so that there is one order for all.
    const speak = async (text) => {
      for (const speaker of speakers) {
        said.push([text, said.length]);
        await speaker.ask("emit", ["all"], [], ...said.at(-1));
        await each(stay, (one) => until(() => one.heard.length === said.length));
      }
    };
    let moved = 0;
    let rounds = 0;
    // Which worker they come to, chance decides.
    while (rounds < 2 || (moved === 0 && rounds < 8)) {
      rounds++;
      await speak("before");
      await each(members, (one) => until(() => one.heard.length === said.length));
      const before = lose.map((one) => one.worker);
      between.fail();
      await each(lose, (one) => until(() => one.disconnects.length === rounds));
      await speak("missed");
      between.isUp = true;
      await each(lose, (one) => one.settled(rounds + 1));
      await each(lose, (one) => until(() => one.heard.length >= said.length));
      moved += lose.filter((one, index) => one.worker !== before[index]).length;
    }
    await speak("after");
    await each(members, (one) => until(() => one.heard.length >= said.length));
    report("said", { said, rounds, lose: lose.map(({ name }) => name), moved, speakers: speakers.map((one) => one.worker), who: await stay[0].ask("who", "all") });
    await each(members, (one) => one.socket.disconnect());
    members.forEach((one) => one.tell());
  },
};

setTimeout(() => {
  console.error(`${scenario}: not done after ${DEADLINE / 1000} s`);
  process.exit(1);
}, DEADLINE).unref();
await scenarios[scenario]();
