// What the picture shows, as values: terms with their ends, lanes, and the rows in them.

const GONE = 3; // workers that are gone and still have lanes of their own

// Terms that touch the stretch, in order, each with when it ended and how; ``end`` null while it lasts.
function termsIn(store, { from, to }) {
  const all = [...store.terms.values()].sort((one, other) => one.term - other.term);
  const leader = state.pool && state.pool.leader;
  return all
    .map((term, at) => {
      const next = all[at + 1];
      const how = next ? (next.reason === "started" ? term.standing || "started" : next.reason) : term.standing;
      const over = next || term.standing;
      const end = over ? Math.min(term.end ?? Infinity, next ? next.at : Infinity) : null;
      const before = all[at - 1]?.pid === term.from ? all[at - 1] : { pid: term.from };
      return { ...term, before, end, how: over ? how : null, leads: !over && leader !== null && leader?.term === term.term };
    })
    .filter((term) => term.at <= to && (term.end ?? Infinity) >= from);
}

function runsIn(store, { from, to }) {
  const found = [];
  for (const run of store.runs.values()) {
    if (run.at <= to && (run.end ?? Infinity) >= from) found.push(run);
  }
  return found.sort((one, other) => one.at - other.at || one.seq - other.seq);
}

function skipsIn(store, { from, to }) {
  const found = [];
  for (const skip of store.skips.values()) if (skip.first <= to && skip.last >= from) found.push(skip);
  return found.sort((one, other) => one.last - other.last || one.seq - other.seq);
}

// A lane per worker: those that live in the order of their start, and above them those that are gone.
function lanesOf(terms, { from, to }) {
  const alive = new Map((state.pool ? state.pool.workers : []).map((worker) => [keyOf(worker), worker]));
  const gone = new Map();
  for (const term of terms) {
    const key = keyOf(term);
    if (!alive.has(key)) gone.set(key, Math.max(gone.get(key) ?? 0, term.end ?? to));
  }
  for (const [key, worker] of state.workers) {
    if (worker.gone !== null && worker.gone >= from && worker.since <= to) gone.set(key, worker.gone);
  }
  const parted = [...gone].sort((one, other) => one[1] - other[1]).map(([key]) => key);
  const earlier = parted.length > GONE ? parted.splice(0, parted.length - GONE) : [];
  const lanes = parted.map((key) => ({ keys: [key], role: "gone" }));
  if (earlier.length) lanes.unshift({ keys: earlier, role: "earlier" });
  for (const [key, worker] of alive) lanes.push({ keys: [key], role: worker.role });
  return lanes;
}

// The row of each job that is in view, in the order of the jobs.
function rowsOf(runs, skips) {
  const seen = new Set();
  for (const run of runs) seen.add(run.job);
  for (const skip of skips) seen.add(skip.job);
  const order = new Map((state.pool ? state.pool.jobs : []).map((job, at) => [job.id, at]));
  const jobs = [...seen].sort((one, other) => (order.get(one) ?? 1e9) - (order.get(other) ?? 1e9) || (one < other ? -1 : 1));
  return new Map(jobs.map((job, at) => [job, at]));
}

function countsOf(runs, skips) {
  const counts = { succeeded: 0, failed: 0, interrupted: 0, running: 0, skipped: 0 };
  for (const run of runs) counts[outcome(run)] += 1;
  for (const skip of skips) counts.skipped += skip.count ?? 1;
  return counts;
}

// Milliseconds from the tick to the start of its code; to its claim while the start is not known.
function lateOf(run) {
  return run.asked ? 0 : Math.max((run.started ?? run.at) - run.due, 0);
}

// --- in words ------------------------------------------------------------------------------------------------------

function beginning(term) {
  if (term.from === null && term.reason === "started") return "the pool was started";
  const before = term.from === null ? "the leader before" : `worker ${workerName(term.before)}`;
  return `${before} ${ENDED[term.reason] ?? term.reason}`;
}

function sayTerm(term) {
  const took = term.ms === null ? "" : `, taken over in ${duration(term.ms)}`;
  return `Term ${term.term}: worker ${workerName(term)} leads from ${clock(term.at, true)}${took}, because ${beginning(term)}.`;
}

function sayEnd(term) {
  return `Term ${term.term} ended at ${clock(term.end, true)}: worker ${workerName(term)} ${ENDED[term.how] ?? term.how}.`;
}

function sayRun(run) {
  const took = run.end === null ? `since ${duration(serverNow() - run.at)}` : `in ${duration(run.end - run.at)}`;
  const tick = run.asked ? "run by hand at" : "due at";
  const late = run.asked ? "" : `, ${duration(lateOf(run))} late`;
  const attempt = run.attempt > 1 ? `, attempt ${run.attempt}` : "";
  const error = run.error ? ` ${run.error}` : "";
  return `${jobName(run.job)}, ${tick} ${clock(run.due, true)}${late}: ${OUTCOME[outcome(run)]} ${took}${attempt}, in term ${run.term}.${error}`;
}

function saySkip(skip) {
  const ticks = skip.count === null ? "ticks" : count(skip.count, "tick");
  const when = skip.first === skip.last ? `due at ${clock(skip.last, true)}` : `due from ${clock(skip.first)} to ${clock(skip.last)}`;
  return `${jobName(skip.job)}: ${ticks} ${when} skipped as ${skip.reason} (${SKIPPED[skip.reason] ?? skip.reason}).`;
}
