// The list of the jobs: searched, filtered, sorted, with the latest runs of each. Rows are kept and changed, so that the
// focus stays; only those near the window are changed at once.

const CELLS = 30; // runs in a job's row
const CELL = 6; // px
const ROWS_ASKED = 40; // jobs whose runs are asked for at once
const SLICES = 20; // calls in which all rows that cannot be seen are brought up to date
const HELD = 5000; // ms for which a pointer that moved in the list keeps rows from moving
const OTHERS_AGE = 15000; // ms after which the jobs that the pool's document leaves out are asked for anew
const OTHERS_LIMIT = 1000;
const MANY = 100; // rows from which those that cannot be seen are not laid out

const grid = {
  rows: new Map(),
  order: [],
  orderedFor: "",
  movedAt: -Infinity,
  turn: 0,
  cells: new Map(), // by job: its latest runs by number
  old: new Set(), // jobs whose cells may lack runs
  asking: false,
  others: new Map(), // jobs that the pool's document leaves out
  othersFor: null,
  othersAt: -Infinity,
  othersCut: false,
};

const JOB_STATES = {
  attention: "Needs attention",
  failed: "Failed last",
  interrupted: "Interrupted last",
  succeeded: "Succeeded last",
  running: "Running now",
  paused: "Paused",
  broken: "Broken",
  never: "Has not run",
};

const SORTS = { "": "Failures first", name: "Name", next: "Next run", last: "Last run" };

function lastOf(job) {
  return state.last[job.id] ?? job.last;
}

// How the latest run that has ended did.
function endedOutcome(job) {
  const last = lastOf(job);
  if (!last || last.outcome) return last?.outcome;
  const ended = [...(grid.cells.get(job.id)?.values() ?? [])].filter((run) => run.outcome);
  return ended.sort((one, other) => other.seq - one.seq)[0]?.outcome;
}

function allJobs() {
  const shown = new Set(state.pool.jobs.map((job) => job.id));
  return [...state.pool.jobs, ...[...grid.others.values()].filter((job) => !shown.has(job.id))];
}

function rankOf(job, now) {
  const found = ATTENTION.findIndex(([, which]) => which(job, now));
  return found < 0 ? ATTENTION.length : found;
}

function isWanted(job, now) {
  const text = place.q.toLowerCase();
  if (text && ![job.id, job.name, job.description, ...job.tags].some((words) => words?.toLowerCase().includes(text))) return false;
  if (place.tag && !job.tags.includes(place.tag)) return false;
  switch (place.outcome) {
    case "attention": return rankOf(job, now) < ATTENTION.length;
    case "running": return job.running > 0;
    case "paused": return job.paused;
    case "broken": return Boolean(job.broken);
    case "never": return !lastOf(job);
    default: return !place.outcome || endedOutcome(job) === place.outcome;
  }
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

// Ids of the jobs to show, in their order; that stands while somebody points at the list or works in it.
function orderOf(jobs, now) {
  const orderedFor = placeOf({ job: "", run: "" });
  const isHeld = elapsed() - grid.movedAt < HELD || $("jobs-table").contains(document.activeElement);
  if (isHeld && orderedFor === grid.orderedFor) {
    const known = new Set(jobs.map((job) => job.id));
    return grid.order.filter((id) => known.has(id));
  }
  grid.orderedFor = orderedFor;
  const keys = {
    name: nameOf,
    next: (job) => (job.paused || !job.next_run_time ? Infinity : Date.parse(job.next_run_time)),
    last: (job) => -(lastOf(job)?.at ?? -Infinity),
  };
  const key = keys[place.sort] ?? ((job) => rankOf(job, now));
  const compare = place.sort === "name" ? COLLATOR.compare : (one, other) => (one === other ? 0 : one < other ? -1 : 1);
  return jobs
    .filter((job) => isWanted(job, now))
    .map((job, at) => [key(job), at, job.id])
    .sort((one, other) => compare(one[0], other[0]) || one[1] - other[1])
    .map(([, , id]) => id);
}

function tellJobs(now) {
  const jobs = allJobs();
  const byId = new Map(jobs.map((job) => [job.id, job]));
  grid.order = orderOf(jobs, now);
  placeRows(grid.order);
  $("jobs-table").classList.toggle("many", jobs.length > MANY);
  grid.turn += 1;
  grid.order.forEach((id, at) => {
    const row = grid.rows.get(id);
    if (row.isNear || !row.job || (at + grid.turn) % SLICES === 0) tellJob(row, byId.get(id), now);
    row.job = byId.get(id);
  });
  tellFilters(jobs);
  const total = Math.max(state.pool.jobs_total, jobs.length);
  show($("no-jobs"), grid.order.length === 0);
  say($("no-jobs"), total ? "No job fits." : "There are no jobs.");
  say($("found"), grid.order.length === total ? count(total, "job") : `${NUMBER.format(grid.order.length)} of ${count(total, "job")}`);
  say($("more-jobs"), `Listed here: ${NUMBER.format(jobs.length)} of ${NUMBER.format(total)}. Search for the others by name.`);
  show($("more-jobs"), grid.othersCut);
  askForCells();
  askForOthers();
}

// Few moves, since each costs a layout: a row in the way of its successor goes to the end, and finds its place later.
function placeRows(order) {
  const body = $("jobs-table").tBodies[0];
  const wanted = new Set(order);
  for (const [id, { row }] of grid.rows) {
    if (wanted.has(id)) continue;
    SIGHT.unobserve(row);
    row.remove();
    grid.rows.delete(id);
  }
  let next = body.firstElementChild;
  for (const id of order) {
    if (!grid.rows.has(id)) grid.rows.set(id, newRow(id));
    const { row } = grid.rows.get(id);
    if (next && next !== row && next.nextElementSibling === row) {
      body.append(next);
      next = row;
    }
    if (next === row) next = row.nextElementSibling;
    else body.insertBefore(row, next);
  }
}

const SIGHT = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    const row = grid.rows.get(target.dataset.job);
    if (!row) continue;
    row.isNear = isIntersecting;
    if (isIntersecting) tellJob(row, row.job, serverNow());
  }
  askForCells();
}, { rootMargin: "300px" });

function newRow(id) {
  const parts = {
    job: null,
    isNear: false,
    name: node("a", { class: "name" }),
    about: node("span", { class: "about" }),
    next: node("td", { role: "cell" }),
    mark: node("span"),
    words: node("span", { class: "words" }),
    why: node("a", { class: "why" }, "Why?"),
    late: node("td", { class: "number", role: "cell" }),
    strip: node("td", { class: "strip", role: "cell" }),
    control: node("td", { class: "control", role: "cell" }),
  };
  const last = node("td", { class: "last", role: "cell" }, parts.mark, parts.words, parts.why);
  const name = node("th", { scope: "row", role: "rowheader" }, parts.name, parts.about);
  parts.row = node("tr", { "data-job": id, role: "row" }, name, parts.next, last, parts.late, parts.strip, parts.control);
  on(parts.strip, "click", (event) => openCell(parts, event));
  SIGHT.observe(parts.row);
  return parts;
}

function tellJob(parts, job, now) {
  const last = lastOf(job);
  const name = nameOf(job);
  say(parts.name, name);
  mark(parts.name, "href", placeOf({ job: job.id, run: "" }));
  say(parts.about, aboutJob(job).join(" · "));
  say(parts.next, nextWords(job, now));
  mark(parts.next, "class", job.broken ? "bad" : job.paused ? "paused" : "");
  mark(parts.mark, "class", last ? `dot ${outcome(last)}` : "dot");
  say(parts.words, last ? lastWords(last, now) : "not yet");
  show(parts.why, Boolean(last && last.error));
  mark(parts.why, "aria-label", `Why did ${name} fail?`);
  if (last) mark(parts.why, "href", placeOf({ job: job.id, run: last.seq }));
  say(parts.late, last && !last.asked ? duration(lateOf(last)) : "–");
  drawCells(parts, job.id);
  tellButtons(parts.control, job);
}

function aboutJob(job) {
  const zone = job.timezone ? `by the clocks of ${job.timezone}` : "";
  return [job.name === job.id ? "" : nameOf(job) === job.id ? job.name : job.id, job.description, job.trigger, zone, ...job.tags.map((tag) => `#${tag}`)].filter(Boolean);
}

function nextWords(job, now) {
  if (job.broken) return `broken: ${job.broken}`;
  if (job.paused) return "paused";
  if (!job.next_run_time) return "none";
  const at = Date.parse(job.next_run_time);
  if (isOwed(job, now)) return `owed since ${clock(at)}${job.running ? ", a run is under way" : ""}`;
  if (!isLed()) return `${clock(at)}, if somebody leads then`;
  if (at - now < 1500) return `${clock(at)}, now`;
  return `${clock(at)}, in ${duration(Math.round((at - now) / 1000) * 1000)}`;
}

function lastWords(run, now) {
  if (run.end === null) return `running for ${duration(Math.max(now - run.at, 0))}`;
  const ago = now - run.end;
  const words = `${run.outcome}, ${ago < 1500 ? "just now" : `${duration(Math.round(ago / 1000) * 1000)} ago`}`;
  return run.error && run.outcome !== "succeeded" ? `${words}: ${run.error}` : words;
}

// --- the latest runs of a job ----------------------------------------------------------------------------------------

const SHAPES = {
  succeeded: (x, high) => `M${x} ${20 - high}h4v${high}h-4Z`,
  failed: (x) => `M${x} 5l4 10m0-10l-4 10`,
  interrupted: (x) => `M${x} 5l4.5 5-4.5 5Z`,
  running: (x) => `M${x + 0.5} 4.5h3v15h-3Z`,
};

function cellsOf(id) {
  return [...(grid.cells.get(id)?.values() ?? [])].sort((one, other) => one.seq - other.seq).slice(-CELLS);
}

// A shape for each run, by its outcome; that of one that succeeded is as high as it took long.
function drawCells(parts, id) {
  const runs = cellsOf(id);
  const drawnFor = runs.map((run) => run.seq + outcome(run)).join();
  if (parts.drawnFor === drawnFor) return;
  parts.drawnFor = drawnFor;
  parts.runs = runs;
  const took = runs.map((run) => Math.log(Math.max((run.end ?? run.at) - run.at, 0.1)));
  const [least, most] = [Math.min(...took), Math.max(...took)];
  const paths = {};
  runs.forEach((run, at) => {
    const high = Math.round(most - least > 0.2 ? 6 + ((took[at] - least) / (most - least)) * 13 : 10);
    (paths[outcome(run)] ??= []).push(SHAPES[outcome(run)]((CELLS - runs.length + at) * CELL, high));
  });
  const counts = countsOf(runs, []);
  const words = Object.keys(SHAPES).filter((kind) => counts[kind]).map((kind) => `${counts[kind]} ${kind}`).join(", ");
  const label = runs.length ? `the latest ${count(runs.length, "run")}: ${words}` : "no run";
  parts.strip.replaceChildren(drawn("svg", { viewBox: `0 0 ${CELLS * CELL} 20`, width: CELLS * CELL, height: 20, role: "img", "aria-label": label },
    ...Object.entries(paths).map(([kind, shapes]) => drawn("path", { class: `cell ${kind}`, d: shapes.join(""), "data-count": shapes.length }))));
}

function openCell({ runs, strip, row }, event) {
  const at = Math.floor((event.clientX - strip.firstElementChild.getBoundingClientRect().left) / CELL) - CELLS + runs.length;
  if (runs[at]) location.hash = placeOf({ job: row.dataset.job, run: runs[at].seq });
}

// ``isWhole``: other runs than these may have been there since the answer before.
function noteCells(runs, isWhole) {
  if (isWhole) grid.old = new Set(grid.cells.keys());
  for (const run of runs) {
    const cells = grid.cells.get(run.job);
    if (!cells) continue;
    cells.set(run.seq, run);
    if (cells.size > 2 * CELLS) grid.cells.set(run.job, new Map(cellsOf(run.job).map((each) => [each.seq, each])));
  }
}

async function askForCells() {
  const wanted = grid.order.filter((id) => grid.rows.get(id).isNear && (!grid.cells.has(id) || grid.old.has(id))).slice(0, ROWS_ASKED);
  if (grid.asking || !wanted.length || isStale()) return;
  grid.asking = true;
  try {
    const told = await read("live/runs", wanted.map((id) => ["job", id]));
    for (const [id, runs] of Object.entries(told)) {
      const cells = new Map(runs.map(([seq, how, at, end]) => [seq, { seq, outcome: how, at, end }]));
      for (const [seq, run] of grid.cells.get(id) ?? []) if (run.outcome || !cells.has(seq)) cells.set(seq, run);
      grid.cells.set(id, cells);
      grid.old.delete(id);
    }
    for (const id of grid.cells.keys()) if (!grid.rows.has(id)) grid.cells.delete(id);
    changed();
  } catch {
    await pause(SLOW); // nobody answered this time
  } finally {
    grid.asking = false;
  }
}

// Those of the jobs that the pool's document leaves out which fit the search.
async function askForOthers() {
  const isAll = state.pool.jobs_total <= state.pool.jobs.length;
  const wanted = isAll ? null : JSON.stringify({ limit: OTHERS_LIMIT, search: place.q, ...(place.tag && { tag: place.tag }) });
  if (isAll) {
    grid.others.clear();
    grid.othersCut = false;
  }
  if (isAll || isStale() || document.hidden || (wanted === grid.othersFor && elapsed() - grid.othersAt < OTHERS_AGE)) return;
  [grid.othersFor, grid.othersAt] = [wanted, elapsed()];
  const readAt = serverNow();
  try {
    const told = await read("jobs", JSON.parse(wanted));
    if (wanted !== grid.othersFor) return;
    grid.others = new Map(told.jobs.map((job) => [job.id, { ...job, readAt, last: job.last_run && fromEntry(job.last_run) }]));
    grid.othersCut = told.next !== null;
    changed();
  } catch {
    grid.othersAt = elapsed() - OTHERS_AGE + 2000; // soon again
  }
}

// --- search and filters ----------------------------------------------------------------------------------------------

function tellFilters(jobs) {
  const tags = [...new Set([...jobs.flatMap((job) => job.tags), ...(place.tag ? [place.tag] : [])])].sort(COLLATOR.compare);
  offer($("tag"), { "": "All tags", ...Object.fromEntries(tags.map((tag) => [tag, tag])) });
  offer($("outcome"), { "": "All outcomes", ...JOB_STATES });
  offer($("sort"), SORTS);
  show($("tag"), tags.length > 0);
  if (document.activeElement !== $("q") && $("q").value !== place.q) $("q").value = place.q;
}

function offer(select, choices) {
  const drawnFor = JSON.stringify(choices);
  if (select.dataset.drawnFor !== drawnFor) {
    select.dataset.drawnFor = drawnFor;
    select.replaceChildren(...Object.entries(choices).map(([value, words]) => node("option", { value }, words)));
  }
  if (select.value !== place[select.id]) select.value = place[select.id];
}

function listenForFilters() {
  for (const id of ["q", "tag", "outcome", "sort"]) {
    $(id).addEventListener("input", () => {
      replacePlace({ [id]: $(id).value });
      if (state.pool !== null) changed();
    });
  }
  on($("filters"), "submit", (event) => event.preventDefault());
  on($("jobs-table"), "pointermove", () => (grid.movedAt = elapsed()));
  on($("jobs-table"), "pointerleave", () => (grid.movedAt = -Infinity));
}
