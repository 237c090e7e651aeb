// The picture: SVG, made anew each time. A path holds all marks of a kind in a row, so that its nodes stay few.

const TOP = 24; // px for the times
const BAR = 18; // the bar of a term
const ROW = 13; // a row of runs
const SIDE = 10; // px right of now
const HUES = 4;

const SIGNS = {
  died: "M-3.2-3.2 3.2 3.2M-3.2 3.2 3.2-3.2",
  fenced: "M1.2-4.6-2.6.8H.4L-1.2 4.6 2.8-.9H-.4Z",
  resigned: "M0-3.6V2.6M-2.8 0 0 2.9 2.8 0",
  lost: "M0-3.8V.9M0 3.4V3.5",
};

// Draws the stretch into ``svg``; returns what can be pointed at: where it is, and what it says.
function paint(svg, { store, from, to, width }) {
  const narrow = width < 560;
  const gutter = narrow ? 62 : 132;
  const right = width - SIDE;
  const x = (time) => gutter + ((Math.min(Math.max(time, from), to) - from) / (to - from)) * (right - gutter);
  const within = (time) => time >= from && time <= to;
  const terms = termsIn(store, { from, to });
  const runs = runsIn(store, { from, to });
  const skips = skipsIn(store, { from, to });
  const rows = rowsOf(runs, skips);
  const made = [];
  const marks = [];

  const laneOf = new Map();
  let y = TOP + 4;
  for (const lane of lanesOf(terms, { from, to })) {
    lane.led = terms.some((term) => lane.keys.includes(keyOf(term)));
    lane.y = y;
    lane.height = BAR + 8;
    for (const key of lane.keys) laneOf.set(key, lane);
    made.push(...paintLane(lane, { x, gutter, right, narrow, from, to }));
    y += lane.height;
  }
  const first = y + 12;
  made.push(...paintRows(rows, { first, gutter, right, narrow }));
  if (rows.size) y = first + rows.size * ROW;
  const height = Math.max(y, TOP + 60) + 6;
  made.unshift(...paintAxis({ x, from, to, gutter, height, right }));

  for (const term of terms) made.push(...paintTerm(term, { laneOf, x, to, within, marks }));
  made.push(...paintTakeovers(terms, { laneOf, x, within, right }));
  made.push(...paintChanges(terms, { x, within, from: first - 8, to: y }));
  const at = (entry) => ({ y: first + rows.get(entry.job) * ROW });
  const busy = new Map(); // by row: from where to where runs are drawn
  made.push(...paintRuns(runs, { at, x, from, to, marks, busy }));
  made.push(...paintSkips(skips, { at, x, from, to, marks, busy }));

  marks.sort((one, other) => one.time - other.time || (one.key < other.key ? -1 : 1));
  setPicture(svg, width, height, made);
  return { marks, terms, runs, skips };
}

function paintAxis({ x, from, to, gutter, height, right }) {
  const steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((seconds) => seconds * 1000);
  const step = steps.find((each) => x(from + each) - x(from) >= 74) ?? steps.at(-1);
  const zone = new Date(to).getTimezoneOffset() * 60000;
  const found = [];
  for (let time = Math.ceil((from - zone) / step) * step + zone; time <= to; time += step) {
    const label = (step < 60000 ? TIME : MINUTE).format(time);
    found.push(line("grid", `M${x(time).toFixed(1)} ${TOP - 6}V${height}`));
    if (x(time) > gutter + 22 && x(time) < right - 22) {
      found.push(drawn("text", { class: "time", x: x(time).toFixed(1), y: TOP - 10, "text-anchor": "middle" }, label));
    }
  }
  found.push(line(state.until === null ? "edge now" : "edge", `M${right} ${TOP - 6}V${height}`));
  return found;
}

function paintLane(lane, { x, gutter, right, narrow, from, to }) {
  const middle = lane.y + (lane.led ? BAR / 2 + 3 : lane.height / 2);
  const [key] = lane.keys;
  const [pid] = key.split(" ");
  const [host, room] = [key.slice(pid.length + 1), Math.max((narrow ? 8 : 17) - pid.length, 3)];
  const isNamed = state.isSpread && lane.role !== "earlier";
  const name = lane.role === "earlier" ? count(lane.keys.length, "earlier", "earlier")
    : isNamed ? `${pid} ${host.length > room ? `…${host.slice(1 - room)}` : host}` : pid; // the ends of names differ
  const found = [
    line("rule", `M0 ${lane.y - 1}H${right + SIDE}`),
    drawn("text", { class: `pid ${lane.role}`, x: 2, y: middle + 4 }, name, ...(isNamed ? [drawn("title", {}, `${pid} on ${host}, ${lane.role}`)] : [])),
  ];
  if (!narrow && lane.role !== "earlier" && name.length < 10) {
    found.push(drawn("text", { class: `role ${lane.role}`, x: gutter - 12, y: middle + 4, "text-anchor": "end" }, lane.role));
  }
  const known = state.workers.get(key);
  if (lane.role !== "earlier" && known) {
    const end = known.gone ?? to;
    if (known.since <= to && end >= from) {
      found.push(line("life", `M${x(known.since).toFixed(1)} ${middle}H${x(end).toFixed(1)}`));
    }
    if (known.gone !== null && known.gone <= to && known.gone >= from && !lane.led) {
      found.push(drawn("path", { class: "parted", transform: `translate(${x(known.gone).toFixed(1)} ${middle})`, d: SIGNS.died }));
    }
  }
  return found;
}

function paintRows(rows, { first, gutter, right, narrow }) {
  const found = [];
  if (rows.size) found.push(line("rule", `M0 ${first - 10}H${right + SIDE}`));
  for (const [job, row] of rows) {
    const top = first + row * ROW;
    found.push(
      line("row", `M${gutter} ${top + 0.5}H${right}`),
      drawn("text", { class: "job", x: gutter - 8, y: top + 3.5, "text-anchor": "end", "data-row": job },
        shortName(job, narrow ? 9 : 20), drawn("title", {}, jobName(job))),
    );
  }
  return found;
}

// Where the jobs went from one leader to the next.
function paintChanges(terms, { x, within, from, to }) {
  const begun = terms.filter((term) => within(term.at));
  return begun.map((term) => line("change", `M${x(term.at).toFixed(1)} ${from}V${to}`));
}

function paintTerm(term, { laneOf, x, to, within, marks }) {
  const lane = laneOf.get(keyOf(term));
  const [left, end] = [x(term.at), x(term.end ?? to)];
  const length = Math.max(end - left, 2);
  const y = lane.y + 3;
  const state = term.end === null && !term.leads ? " doubtful" : "";
  const found = [
    drawn("rect", {
      class: `term hue${term.term % HUES}${state}`, x: left.toFixed(1), y, width: length.toFixed(1), height: BAR, rx: 3,
      "data-term": term.term,
    }),
  ];
  const label = length > 96 ? `term ${term.term}` : String(term.term);
  if (length > 8 + label.length * 7) {
    found.push(drawn("text", { class: "number", x: (left + 7).toFixed(1), y: y + 13 }, label));
  }
  if (within(term.at)) {
    marks.push({ key: `term ${term.term}`, time: term.at, x: left + 4, y: y + BAR / 2, say: () => sayTerm(term) });
  }
  if (term.end !== null && within(term.end)) {
    const how = term.how === "started" ? "resigned" : term.how;
    found.push(
      drawn("g", { class: `sign ${how}`, transform: `translate(${end.toFixed(1)} ${y + BAR / 2})`, "data-sign": how },
        drawn("circle", { r: 7.5 }), drawn("path", { d: SIGNS[how] ?? SIGNS.lost })),
    );
    marks.push({ key: `end ${term.term}`, time: term.end, x: end, y: y + BAR / 2, say: () => sayEnd(term) });
  }
  return found;
}

// From the lane of the one to the lane of the other, with the milliseconds.
function paintTakeovers(terms, { laneOf, x, within, right }) {
  const found = [];
  let free = -Infinity;
  for (const term of terms) {
    if (!within(term.at) || term.ms === null || term.from === null) continue;
    const [here, there] = [laneOf.get(keyOf(term)), laneOf.get(keyOf(term.before))];
    const left = x(term.at);
    if (there && there !== here) {
      const [start, end] = [there.y + 3 + BAR / 2, here.y + 3 + (there.y < here.y ? 0 : BAR)];
      found.push(line("handover", `M${left.toFixed(1)} ${start + (there.y < here.y ? 8 : -8)}V${end}`));
    }
    const label = duration(term.ms);
    const length = label.length * 6.4 + 12;
    // Beside the number of the term where that has room, else left of the bar.
    const inside = x(term.end ?? Infinity) - left > length + 76;
    const start = inside ? left + 66 + String(term.term).length * 4 : left - length - 10;
    if (!inside && start < free) continue;
    free = start + length;
    if (start + length > right) continue;
    found.push(drawn("text", { class: inside ? "took inside" : "took", x: start.toFixed(1), y: here.y + 16, "data-takeover": term.term }, label));
  }
  return found;
}

function paintRuns(runs, { at, x, from, to, marks, busy }) {
  const kinds = { succeeded: new Map(), failed: new Map(), interrupted: new Map(), running: new Map() };
  for (const run of runs) {
    const kind = outcome(run);
    const { y } = at(run);
    const [left, end] = [x(Math.max(run.at, from)), x(run.end ?? to)];
    const paths = kinds[kind];
    if (!paths.has(y)) paths.set(y, { d: [], count: 0, upTo: -Infinity });
    const path = paths.get(y);
    path.count += 1;
    marks.push({ key: `run ${run.seq}`, time: run.at, x: left, y, plain: kind === "succeeded", job: run.job, run: run.seq, say: () => sayRun(run) });
    if (left < path.upTo && kind !== "running") continue; // it would be drawn over the one before
    path.upTo = left + (kind === "succeeded" ? 1 : 4);
    path.d.push(RUNS[kind](left, y, Math.max(end - left, 0)));
    if (!busy.has(y)) busy.set(y, []);
    busy.get(y).push([left - 4, Math.max(end, left + 4)]);
  }
  const found = [];
  for (const [kind, paths] of Object.entries(kinds)) {
    for (const { d, count: number } of paths.values()) {
      found.push(drawn("path", { class: `run ${kind}`, d: d.join(""), "data-runs": kind, "data-count": number }));
    }
  }
  return found;
}

function block(x, y, length, high) {
  return `M${x.toFixed(1)} ${y - high / 2}h${length.toFixed(1)}v${high}h-${length.toFixed(1)}Z`;
}

const RUNS = {
  succeeded: (x, y, length) => block(x - 1, y, Math.max(length, 2), length > 5 ? 6 : 8),
  failed: (x, y, length) => `M${(x - 3.5).toFixed(1)} ${y - 3.5}l7 7m0-7l-7 7${length > 8 ? `m7-3.5h${(length - 4).toFixed(1)}` : ""}`,
  interrupted: (x, y, length) => `M${(x - 1).toFixed(1)} ${y - 4.5}l7 4.5-7 4.5Z${length > 9 ? `m7 4.5h${(length - 7).toFixed(1)}` : ""}`,
  running: (x, y, length) => block(x - 1, y, Math.max(length, 3), 7),
};

function paintSkips(skips, { at, x, from, to, marks, busy }) {
  const found = [];
  const free = new Map(); // by row: from where on nothing is written
  const drawnTo = new Map();
  let tries = 80;
  for (const skip of skips) {
    const { y } = at(skip);
    const [left, end] = [x(Math.max(skip.first, from)), x(Math.min(skip.last, to))];
    marks.push({ key: `skip ${skip.seq}`, time: skip.last, x: (left + end) / 2, y, job: skip.job, say: () => saySkip(skip) });
    if (end < (drawnTo.get(y) ?? -Infinity) + 3) continue;
    drawnTo.set(y, end);
    const shape = end - left > 9
      ? `M${left.toFixed(1)} ${y - 4}H${end.toFixed(1)}v8H${left.toFixed(1)}Z`
      : `M${end.toFixed(1)} ${y - 4.5}l4.5 4.5-4.5 4.5-4.5-4.5Z`;
    found.push(drawn("path", { class: "skip", d: shape, "data-skip": skip.reason }));
    const length = skip.reason.length * 6.2;
    const inside = end - left > length + 8;
    for (const label of inside ? [left + 4] : [end + 8, left - 8 - length]) {
      if (label < (free.get(y) ?? x(from)) || label + length > x(to) || tries-- < 0) continue;
      if (!inside && busy.get(y)?.some(([one, other]) => one < label + length && other > label)) continue;
      found.push(drawn("text", { class: "reason", x: label.toFixed(1), y: y + 3.5 }, skip.reason));
      free.set(y, label + length + 12);
      break;
    }
  }
  return found;
}

function paintLegend(list) {
  const signs = { succeeded: "ran", failed: "failed", interrupted: "interrupted", running: "running now" };
  for (const [kind, words] of Object.entries(signs)) list.append(legend(words, drawn("path", { class: `run ${kind}`, d: RUNS[kind](8, 8, kind === "running" ? 6 : 0) })));
  list.append(legend("skipped", drawn("path", { class: "skip", d: "M8 3.5l4.5 4.5-4.5 4.5-4.5-4.5Z" })));
  for (const [how, sign] of Object.entries(SIGNS)) {
    list.append(legend(how, drawn("g", { class: `sign ${how}`, transform: "translate(8 8)" }, drawn("circle", { r: 7.5 }), drawn("path", { d: sign }))));
  }
}

function legend(words, sign) {
  return node("li", {}, drawn("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": true }, sign), words);
}
