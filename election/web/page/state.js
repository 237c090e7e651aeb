// What is known, and how it is asked for: small questions, again and again, of whichever worker answers.

const POLL = 300; // ms between an answer and the next question
const CALM = 1000; // ms, when there has been no news for a while
const A_WHILE = 10000; // ms
const TIMEOUT = 1500; // ms that a worker gets to answer
const PATIENT = 5000; // ms: a busy ledger may take its time
const QUICK = 40; // ms before the next try, when a worker died under a question
const SLOW = 400; // ms before the next try, when nobody answers
const OVERLAP = 3000; // ms that are asked for again: what was under way then has ended since
const MOST = 5000; // runs that are remembered before all are asked for anew, and thinned
const STALE = 3000; // ms without an answer after which nothing is said of now any more
const HIDDEN = 5000; // ms between two questions of a page that nobody sees
const RECOUNT = 10000; // ms after which thinned runs are asked for and counted anew

// Milliseconds by a clock that nobody sets.
function elapsed() {
  return performance.now();
}

const state = {
  pool: null, // the document of /leader
  checksum: 0, // of its jobs
  news: "", // all of the last answer that is drawn
  sharedNames: new Set(), // those of more than one job
  controls: null, // who decides on changes: token, application, or null without such routes
  offset: 0, // the server's clock less ours
  answeredAt: null, // elapsed()
  toldAt: null, // the server's time then
  failures: 0,
  live: newStore(),
  past: null, // the stretch that is looked back at
  span: 5 * 60000,
  until: null, // the end of the stretch; null: now
  begins: null,
  last: {},
  workers: new Map(), // those that were seen here, by their keys: since when, and when they were gone
  isSpread: false, // over several hosts, whose pids may be equal
};

// A worker among those of all hosts; its pid comes first.
function keyOf({ pid, host }) {
  return `${pid} ${host}`;
}

// Its pid, with its host if it is known and there are several.
function workerName({ pid, host }) {
  return state.isSpread && host ? `${pid} on ${host}` : String(pid);
}

// The worker of this pid that led before a term.
function leaderBefore(number, pid) {
  const led = [...state.live.terms.values()].filter((term) => term.term < number && term.pid === pid);
  return led.sort((one, other) => other.term - one.term)[0] ?? { pid };
}

function noteHosts() {
  const seen = [state.pool.workers, state.live.terms.values(), state.past?.terms.values() ?? []].flatMap((some) => [...some]);
  state.isSpread = new Set(seen.map((worker) => worker.host)).size > 1;
}

function newStore() {
  return { terms: new Map(), runs: new Map(), skips: new Map(), upTo: null, from: null, every: 1, counts: null, countedAt: null, problem: null };
}

// Whether nobody has answered for so long that nothing can be said of now.
function isStale() {
  return state.failures > 0 && silence() > STALE;
}

function silence() {
  return elapsed() - (state.answeredAt ?? 0);
}

// The server's clock; it stands while nobody answers.
function serverNow() {
  return isStale() && state.toldAt !== null ? state.toldAt : Date.now() + state.offset;
}

function stretch() {
  const to = state.until === null ? serverNow() : state.until;
  return { from: to - state.span, to };
}

async function ask(path, options = {}) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), options.timeout || TIMEOUT);
  try {
    return await fetch(path, { cache: "no-store", credentials: "same-origin", signal: giveUp.signal, ...options });
  } finally {
    clearTimeout(timer);
  }
}

async function askForData(since, until) {
  const query = new URLSearchParams({ since: Math.max(0, Math.floor(since)), known: state.checksum });
  if (until !== null) query.set("until", Math.ceil(until));
  const answer = await ask(`live/data?${query}`);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const told = await answer.json();
  told.pool.jobs ??= state.pool.jobs; // left out, since they are the same
  return told;
}

// The document at a path; the error says why there is none.
async function read(path, query, headers) {
  const answer = await ask(`${path}?${new URLSearchParams(query)}`, { timeout: PATIENT, headers });
  if (!answer.ok) throw new Error(await detail(answer));
  return answer.json();
}

function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

async function detail(answer) {
  try {
    const { detail: words } = await answer.json();
    return typeof words === "string" ? words : words[0].msg.trim();
  } catch {
    return `status ${answer.status}`;
  }
}

// One question and what it changes; whether there is anything to draw before the clocks go on.
async function refresh() {
  const store = state.live;
  const span = isCounted() ? 60000 : state.span;
  const wanted = serverNow() - span - 5000;
  const old = store.every > 1 && elapsed() - store.countedAt > RECOUNT;
  const whole = store.upTo === null || store.from > wanted + 10000 || store.runs.size > MOST || old;
  // Rounded, so that all who look at the pool ask the same, and the ledger is asked once.
  const since = Math.floor((whole ? wanted : store.upTo - OVERLAP) / 1000) * 1000;
  const told = await askForData(since, null);
  const news = JSON.stringify([{ ...told.pool, answered_by: 0, leader: { ...told.pool.leader, heartbeat_age_s: 0 } }, told.history]);
  state.offset = told.now - Date.now();
  state.answeredAt = elapsed();
  state.toldAt = told.now;
  state.pool = told.pool;
  state.checksum = told.checksum;
  state.sharedNames = namesTwice(allJobs());
  state.controls = told.controls;
  noteWorkers(told.pool, told.now);
  if (told.history.problem === null && !told.pool.problem?.includes("has not been started")) {
    if (whole) {
      state.live = newStore();
      state.live.from = since;
    }
    merge(state.live, told.history, whole);
    noteCells(told.history.runs, whole);
    state.live.upTo = told.now;
    state.begins = told.history.begins;
    state.last = told.history.last;
    forget(state.live, Math.min(wanted, told.now - span) - 60000);
  }
  state.live.problem = told.history.problem;
  noteLeader(state.live, told.pool);
  noteHosts();
  const isNew = news !== state.news;
  state.news = news;
  return isNew;
}

function merge(store, history, whole) {
  for (const term of history.terms) store.terms.set(term.term, term);
  for (const skip of history.skips) store.skips.set(skip.seq, skip);
  const told = new Set();
  for (const run of history.runs) {
    store.runs.set(run.seq, run);
    told.add(run.seq);
  }
  if (whole) {
    store.every = history.runs_every;
    store.counts = history.counts;
    store.countedAt = elapsed();
    return;
  }
  for (const run of store.runs.values()) {
    // It ran when it was told last, and does no more; what became of it is older than what was asked for.
    if (run.outcome === null && !told.has(run.seq)) store.from = Infinity;
  }
}

function forget(store, before) {
  for (const [seq, run] of store.runs) if ((run.end || Infinity) < before) store.runs.delete(seq);
  for (const [seq, skip] of store.skips) if (skip.at < before) store.skips.delete(seq);
}

// The leader is known before the ledger has said so, and also when the ledger cannot be read.
function noteLeader(store, pool) {
  const leader = pool.leader;
  if (leader === null || store.terms.has(leader.term)) return;
  const takeover = pool.last_takeover && pool.last_takeover.term === leader.term ? pool.last_takeover : null;
  store.terms.set(leader.term, {
    term: leader.term,
    pid: leader.pid,
    host: leader.host,
    at: Date.parse(leader.elected_at),
    end: null,
    reason: takeover ? takeover.reason : "started",
    from: takeover ? takeover.from_pid : null,
    ms: takeover ? takeover.takeover_ms : null,
    standing: null,
  });
}

function noteWorkers(pool, now) {
  const alive = new Set(pool.workers.map(keyOf));
  for (const worker of pool.workers) {
    state.workers.set(keyOf(worker), { since: Date.parse(worker.started_at), gone: null });
  }
  for (const [key, worker] of state.workers) {
    if (!alive.has(key) && worker.gone === null && pool.workers.length) worker.gone = now;
    if (worker.gone !== null && worker.gone < now - 3600e3) state.workers.delete(key);
  }
}

let wake = () => {}; // ends the wait before the next question
on(document, "visibilitychange", () => wake());

// Ask for ever. ``changed`` is called after each answer with news, and after each failure.
async function poll(changed) {
  let newsAt = 0;
  for (;;) {
    let wait = null;
    let isNew = true;
    try {
      isNew = (await refresh()) || state.failures > 0;
      state.failures = 0;
    } catch {
      state.failures += 1;
      wait = state.failures < 4 ? QUICK : SLOW;
    }
    if (isNew) {
      newsAt = elapsed();
      changed();
    }
    wait ??= elapsed() - newsAt < A_WHILE ? POLL : CALM;
    await new Promise((done) => {
      wake = done;
      setTimeout(done, document.hidden ? HIDDEN : wait); // the title is seen all the same
    });
  }
}

let asking = 0;

// The stretch that is looked back at; tried again until it is told, or another one is wanted.
async function lookBack(changed) {
  const mine = ++asking;
  while (state.until !== null && mine === asking) {
    const { from, to } = stretch();
    try {
      const told = await askForData(from, to);
      if (mine !== asking) return;
      if (told.history.problem === null) {
        state.past = newStore();
        merge(state.past, told.history, true);
        noteHosts();
        changed();
        return;
      }
    } catch {
      // Nobody answered this time.
    }
    await pause(SLOW);
  }
}
