"use strict";

const PAUSE = 100; // ms between an answer and the next message: never two on the way, or they would wait for each other
const KEPT = 3000; // samples: five minutes of them
const SPAN = 30_000; // ms of time in the plot
const RETRY = 1000; // ms until the next attempt to connect

const at = (id) => document.getElementById(id);

window.samples = []; // round trips of this connection in ms, the newest last

let points = []; // for each of them { time, rtt, transport }, the time in ms since the beginning of the connection
let upgradedAt = null; // likewise
let begin = 0;
let socket = null;
let timer = null;

// --- measuring

function connect() {
  const transports = at("mode").value.split(",");
  const connection = (socket = eio({ transports }));
  // The old plot stays until there is a connection that begins a new one.
  const began = performance.now();
  let sent = null;

  // What a connection does after restart() has begun the next one is of no interest.
  const on = (event, handler) => connection.on(event, (...details) => connection === socket && handler(...details));

  function ping() {
    sent = { time: performance.now(), transport: connection.transport.name };
    connection.send("ping");
  }

  on("open", () => {
    begin = began;
    upgradedAt = null;
    points = [];
    window.samples.length = 0;
    for (const cell of document.querySelectorAll("td")) cell.textContent = cell.matches(":nth-child(2)") ? "0" : "–";
    at("upgraded").textContent = transports.length > 1 ? "not yet" : "no upgrade";
    showTransport(connection.transport.name);
    ping();
  });
  on("message", () => {
    const now = performance.now();
    // A message that was on its way during the upgrade counts for the transport that took it.
    add({ time: now - begin, rtt: now - sent.time, transport: sent.transport });
    timer = setTimeout(ping, PAUSE);
  });
  on("upgrade", (transport) => {
    upgradedAt = performance.now() - begin;
    at("upgraded").textContent = `after ${Math.round(upgradedAt)} ms`;
    showTransport(transport.name);
  });
  on("upgradeError", () => {
    at("upgraded").textContent = "failed";
  });
  on("close", () => {
    clearTimeout(timer);
    showTransport("", "not connected");
    timer = setTimeout(connect, RETRY);
  });
}

function restart() {
  clearTimeout(timer);
  const previous = socket;
  showTransport("", "connecting…");
  connect();
  previous.close();
}

function add(point) {
  points.push(point);
  window.samples.push(point.rtt);
  if (points.length > KEPT) {
    points.shift();
    window.samples.shift();
  }
  at("rtt").textContent = `${format(point.rtt)} ms`;
  showStatistics(point.transport);
  requestAnimationFrame(draw);
}

function showTransport(name, text = name) {
  at("transport").className = name;
  at("transport").textContent = text;
}

function showStatistics(transport) {
  const sorted = points.filter((point) => point.transport === transport).map((point) => point.rtt).sort((a, b) => a - b);
  const values = [0, 0.5, 0.95].map((share) => format(percentile(sorted, share)));
  const cells = at(transport).querySelectorAll("td");
  [sorted.length, ...values].forEach((value, index) => (cells[index].textContent = value));
}

// The smallest value that at least this share of all values doesn't exceed.
function percentile(sorted, share) {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

function format(ms) {
  return ms < 100 ? ms.toFixed(1) : ms.toFixed(0);
}

// --- the plot

const MARGIN = { top: 26, right: 14, bottom: 26, left: 62 };
const SMALLEST = 0.1; // ms: the clock of a browser isn't finer, and 0 has no place on a logarithmic scale

function draw() {
  const canvas = at("plot");
  const { width, height } = canvas.getBoundingClientRect();
  const pixels = window.devicePixelRatio;
  canvas.width = Math.round(width * pixels);
  canvas.height = Math.round(height * pixels);

  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  if (right <= MARGIN.left || bottom <= MARGIN.top) return;

  const paint = canvas.getContext("2d");
  paint.scale(pixels, pixels);
  paint.font = "12px system-ui, sans-serif";

  // Time: the last SPAN, or everything from the beginning while that is less.
  const latest = points.at(-1)?.time ?? 0;
  const to = Math.max(latest, 2000);
  const from = Math.max(0, to - SPAN);
  const shown = points.filter((point) => point.time >= from);
  const x = (time) => MARGIN.left + ((time - from) / (to - from)) * (right - MARGIN.left);

  // Round trips: from the tick below the shortest to the tick above the longest, and no less than a factor of ten.
  const ticks = rttTicks(shown.map((point) => point.rtt));
  const [low, high] = [Math.log(ticks[0]), Math.log(ticks.at(-1))];
  const y = (rtt) => bottom - ((Math.log(Math.max(rtt, SMALLEST)) - low) / (high - low)) * (bottom - MARGIN.top);

  drawAxes(paint, { ticks, x, y, from, to, right, bottom });
  for (const name of ["polling", "websocket"]) drawPoints(paint, shown.filter((each) => each.transport === name), name, x, y);
  if (upgradedAt !== null && upgradedAt >= from) drawUpgrade(paint, x(upgradedAt), right, bottom);
}

function drawAxes(paint, { ticks, x, y, from, to, right, bottom }) {
  paint.strokeStyle = color("--line");
  paint.fillStyle = color("--quiet");
  paint.lineWidth = 1;

  paint.textAlign = "right";
  paint.textBaseline = "middle";
  let lastLabel = Infinity;
  for (const tick of ticks) {
    line(paint, MARGIN.left, y(tick), right, y(tick));
    // In a low window the labels would overlap.
    if (lastLabel - y(tick) > 16) {
      paint.fillText(`${tick} ms`, MARGIN.left - 8, y(tick));
      lastLabel = y(tick);
    }
  }

  paint.textBaseline = "top";
  const step = timeStep(to - from, (right - MARGIN.left) / 80);
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    const label = step < 1000 ? `${time} ms` : `${time / 1000} s`;
    // The outermost labels stay inside the canvas.
    paint.textAlign = x(time) > right - 20 ? "right" : "center";
    paint.fillText(label, x(time), bottom + 8);
    line(paint, x(time), bottom, x(time), bottom + 4);
  }
}

function drawPoints(paint, shown, name, x, y) {
  paint.fillStyle = paint.strokeStyle = color(`--${name}`);
  paint.globalAlpha = 0.35;
  paint.lineWidth = 1;
  paint.beginPath();
  for (const { time, rtt } of shown) paint.lineTo(x(time), y(rtt));
  paint.stroke();
  paint.globalAlpha = 1;
  for (const { time, rtt } of shown) {
    paint.beginPath();
    paint.arc(x(time), y(rtt), 2.5, 0, 2 * Math.PI);
    paint.fill();
  }
}

function drawUpgrade(paint, position, right, bottom) {
  paint.strokeStyle = paint.fillStyle = color("--ink");
  paint.lineWidth = 1.5;
  paint.setLineDash([5, 4]);
  line(paint, position, MARGIN.top - 14, position, bottom);
  paint.setLineDash([]);
  const label = `upgrade, after ${Math.round(upgradedAt)} ms`;
  const fits = position + 8 + paint.measureText(label).width < right;
  paint.textAlign = fits ? "left" : "right";
  paint.textBaseline = "middle";
  paint.fillText(label, position + (fits ? 7 : -7), MARGIN.top - 12);
}

function line(paint, x1, y1, x2, y2) {
  paint.beginPath();
  paint.moveTo(x1, y1);
  paint.lineTo(x2, y2);
  paint.stroke();
}

// 1, 2, 5, 10, 20, 50, …
function* roundNumbers(power) {
  for (; ; power++) for (const digit of [1, 2, 5]) yield Number(`${digit}e${power}`);
}

function rttTicks(values) {
  const least = Math.max(SMALLEST, values.length ? Math.min(...values) : 1);
  const most = Math.max(least, ...values);
  const ticks = [];
  for (const tick of roundNumbers(-1)) {
    if (tick <= least) ticks.length = 0;
    ticks.push(tick);
    if (tick >= most && tick >= 10 * ticks[0]) return ticks;
  }
}

function timeStep(span, labels) {
  for (const step of roundNumbers(2)) if (span / step <= Math.max(labels, 1)) return step;
}

// A custom property as a colour that canvas knows: the browser resolves light-dark() only in real properties.
function color(property) {
  const probe = at("plot");
  probe.style.color = `var(${property})`;
  return getComputedStyle(probe).color;
}

at("mode").addEventListener("change", restart);
new ResizeObserver(draw).observe(at("plot"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

if (window.eio) {
  connect();
} else {
  showTransport("", "engine.io-client is missing: run “npm ci” in the folder of this example");
}
