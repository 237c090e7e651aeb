// Words and nodes. What came from outside becomes text, by textContent, and never markup.

const $ = (id) => document.getElementById(id);
const on = (target, event, act) => target.addEventListener(event, act);

function node(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function line(kind, d) {
  return drawn("path", { class: kind, d });
}

// Puts what was drawn into a picture of this size, in the place of what was there.
function setPicture(svg, width, height, made) {
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height })) svg.setAttribute(name, value);
  svg.replaceChildren(...made);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.map((child) => (typeof child === "string" ? isolated(child) : child)));
  return made;
}

const TURNING = new RegExp("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", "g");

// Characters that would turn the text around them are shown as they are written in code.
function isolated(text) {
  return String(text).replace(TURNING, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Only what changed is written: a screen reader is not told the same twice, and a selection stays.
function say(element, text) {
  const words = isolated(text);
  if (element.textContent !== words) element.textContent = words;
}

function show(element, whether) {
  if (element.hidden === whether) element.hidden = !whether;
}

function mark(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const NUMBER = new Intl.NumberFormat("en");

function count(number, one, many = `${one}s`) {
  return `${NUMBER.format(number)} ${number === 1 ? one : many}`;
}

function duration(ms) {
  if (ms < 0) return "0 ms";
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  return units
    .slice(first, first + 2)
    .map(([unit, length], at) => [Math.floor((at ? seconds % units[first][1] : seconds) / length), unit])
    .filter(([number]) => number > 0)
    .map((part) => part.join(" "))
    .join(" ");
}

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const ZONE = TIME.resolvedOptions().timeZone;
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

// The time of day, with the day if that is not today.
function clock(ms, exact = false) {
  const fraction = exact ? `.${String(Math.floor(ms) % 1000).padStart(3, "0")}` : "";
  const time = TIME.format(ms) + fraction;
  if (DAYS.format(ms) === DAYS.format(serverNow())) return time;
  return `${Math.abs(serverNow() - ms) > 300 * 86400e3 ? DAYS.format(ms) : DAY.format(ms)}, ${time}`;
}

const ENDED = {
  died: "died",
  resigned: "resigned",
  fenced: "hung and was fenced",
  lost: "lost the seat",
  started: "stopped in good order",
};

const OUTCOME = {
  succeeded: "succeeded",
  failed: "failed",
  interrupted: "was interrupted",
  running: "is running",
};

const SKIPPED = {
  coalesced: "a later tick ran for it",
  misfired: "too late to start",
  clock: "a clock was ahead, and is right again",
  overlap: "the run before was still going",
  paused: "the job was paused",
  down: "nobody led",
  copied: "the ledger is a copy, and this fell due before",
  lost: "nobody led, and the ledger was lost",
};

function outcome(run) {
  return run.outcome || "running";
}

function jobName(id) {
  const known = state.pool?.jobs.find((job) => job.id === id) ?? grid.others.get(id);
  return known ? nameOf(known) : id;
}

// Its name, unless another job has the same: then its id.
function nameOf(job) {
  return job.name && !state.sharedNames.has(job.name) ? job.name : job.id;
}

function namesTwice(jobs) {
  const seen = new Set();
  return new Set(jobs.map((job) => job.name).filter((name) => seen.has(name) || !seen.add(name)));
}

// For narrow places: a function's own name says more than the modules it is in.
function shortName(id, longest) {
  const name = jobName(id);
  const last = name.length > longest ? name.slice(name.lastIndexOf(":") + 1) : name;
  return last.length > longest ? `${last.slice(0, longest - 1)}…` : last;
}

function firstCapital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
