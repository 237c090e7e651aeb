// The page of one job: what it is, how its runs went, one run with all that is known of it, skips, and what comes next.

const RUNS_READ = 50; // runs of a page of the history, and in the chart
const SKIPS_READ = 20;
const NEXT_READ = 10;
const REREAD = 15000; // ms after which the history is read anew, though nothing has been seen to change
const PAUSE = 1000; // ms between two readings at least

let shownJob = newJobPage("");

function newJobPage(id) {
  return {
    id, entry: null, isRead: false, runs: new Map(), older: null, skips: [], changes: [], ticks: null, problem: null,
    seen: "", readAt: -Infinity, reading: false, chosen: null, run: null, runProblem: null, drawnFor: "", args: null,
  };
}

// A run of the history as the live data have it.
function fromEntry(run) {
  const ms = (text) => text && Date.parse(text);
  return { ...run, job: run.job_id, due: ms(run.due), asked: run.request > 0, at: ms(run.claimed_at), started: ms(run.started_at), end: ms(run.ended_at) };
}

function tellJobPage(now) {
  if (shownJob.id !== place.job) shownJob = newJobPage(place.job);
  const page = shownJob;
  const live = state.pool.jobs.find((job) => job.id === page.id);
  const job = live || page.entry ? { ...page.entry, ...live, readAt: live ? null : page.entry.readAt } : null;
  readJob(page, JSON.stringify([live?.next_run_time, live?.paused, live?.running, state.last[page.id]?.seq, state.last[page.id]?.outcome]));
  say($("job-title"), job ? nameOf(job) : page.id);
  mark($("to-jobs"), "href", placeOf({ job: "", run: "" }));
  const missing = page.isRead && job === null;
  say($("job-missing"), `There is no job “${page.id}” in this pool. It may have been removed or renamed, or has finished${page.runs.size ? "; its history follows" : ""}.`);
  show($("job-missing"), missing);
  say($("job-problem"), `Its history cannot be read: ${page.problem}. Trying again.`);
  show($("job-problem"), page.problem !== null);
  show($("job-facts"), job !== null);
  show($("job-history"), !missing || page.runs.size > 0);
  if (job && page.args === null && control.isAccepted) readArguments(page);
  if (job) tellFacts(job, now);
  tellButtons($("job-control"), job);
  const runs = [...page.runs.values()].sort((one, other) => one.seq - other.seq);
  choosePageRun(page, runs);
  const width = Math.min($("job").clientWidth - 30, 1380);
  const drawnFor = JSON.stringify([placeOf({}), width, page.readAt, page.runs.size, page.chosen, page.older]);
  if (page.drawnFor === drawnFor) return;
  page.drawnFor = drawnFor;
  drawHistory($("history"), runs.slice(-RUNS_READ), { width, chosen: page.chosen });
  say($("history-words"), historyWords(runs.slice(-RUNS_READ)));
  tellLists(page, runs.reverse());
}

function tellFacts(job, now) {
  const last = lastOf({ id: job.id, last: job.last_run && fromEntry(job.last_run) });
  const facts = [
    ["Next run", nextWords(job, now)],
    ["Last run", last ? lastWords(last, now) : "not yet"],
    ["Trigger", job.trigger + (job.timezone ? `, by the clocks of ${job.timezone}` : "")],
    ["For", job.description],
    ["Tags", job.tags.join(" ")],
    ["Arguments", control.isAccepted ? shownJob.args : state.controls === "token" ? "shown with the admin token" : ""],
    ["Name", nameOf(job) === job.name ? "" : job.name],
    ["Id", nameOf(job) === job.id ? "" : job.id],
  ];
  const list = $("job-facts");
  if (!list.firstElementChild) list.append(...facts.map(([words]) => node("div", {}, node("dt", {}, words), node("dd"))));
  facts.forEach(([words, value], at) => {
    const [, cell] = list.children[at].children;
    if (words === "Tags") tellTags(cell, job.tags);
    else say(cell, value || "");
    show(list.children[at], Boolean(value));
    mark(cell, "class", words === "Next run" && job.broken ? "bad" : words === "Next run" && job.paused ? "paused" : "");
  });
}

function tellTags(cell, tags) {
  if (cell.dataset.drawnFor === String(tags)) return;
  cell.dataset.drawnFor = tags;
  cell.replaceChildren(...tags.map((tag) => node("a", { class: "tag", href: placeOf({ job: "", run: "", q: "", outcome: "", tag }) }, `#${tag}`)));
}

// Reads the job when the live data show that something has changed, and now and then.
async function readJob(page, seen) {
  const age = elapsed() - page.readAt;
  if (page.reading || isStale() || document.hidden || age < PAUSE || (seen === page.seen && age < REREAD && page.problem === null)) return;
  [page.reading, page.seen] = [true, seen];
  const readAt = serverNow();
  const about = (path, limit) => read(path, { job: page.id, limit });
  try {
    const [jobs, runs, skips, changes, next] = await Promise.all([about("jobs", 1), about("runs", RUNS_READ), about("skips", SKIPS_READ), about("changes", SKIPS_READ), about("next", NEXT_READ)]);
    page.entry = jobs.jobs[0] ? { ...jobs.jobs[0], readAt } : null;
    page.older = page.isRead && page.older !== runs.next ? page.older : runs.next;
    for (const run of runs.runs) page.runs.set(run.seq, fromEntry(run));
    [page.skips, page.changes, page.ticks, page.problem, page.isRead] = [skips.skips, changes.changes, next, null, true];
    if (page.run && page.run.outcome === null) readRun(page, page.run.seq);
  } catch (error) {
    page.problem = error.message;
  }
  [page.reading, page.readAt] = [false, elapsed()];
  changed();
}

// Only with the admin token: they may be secret.
async function readArguments(page) {
  page.args = "Loading …";
  try {
    const told = await read(`jobs/${encodeURIComponent(page.id)}/arguments`, {}, authorized());
    page.args = Object.entries(told.arguments).map((pair) => pair.join("=")).join(", ") || "none";
  } catch (error) {
    page.args = `cannot be read: ${error.message}`;
  }
  changed();
}

async function readOlder() {
  const page = shownJob;
  try {
    const told = await read("runs", { job: page.id, limit: RUNS_READ, before: page.older });
    for (const run of told.runs) page.runs.set(run.seq, fromEntry(run));
    page.older = told.next;
  } catch (error) {
    page.problem = error.message;
  }
  changed();
}

// --- lists -------------------------------------------------------------------------------------------------------------

function tellLists(page, runs) {
  $("job-runs").tBodies[0].replaceChildren(...runs.map((run) => {
    const link = node("a", { href: placeOf({ run: run.seq }), "aria-current": run.seq === page.chosen ? "true" : null }, clock(run.due, true));
    const how = node("td", {}, node("span", { class: `dot ${outcome(run)}` }), outcome(run) + (run.error ? `: ${shortened(run.error)}` : ""));
    return node("tr", { class: run.seq === page.chosen ? "chosen" : null }, node("th", { scope: "row" }, link), how,
      node("td", { class: "number" }, run.asked ? "by hand" : duration(lateOf(run))),
      node("td", { class: "number" }, run.end === null ? "–" : duration(run.end - run.at)),
      node("td", { class: "number" }, String(run.attempt)), node("td", { class: "number" }, String(run.term)));
  }));
  show($("older"), page.older !== null);
  const ticks = page.ticks?.ticks ?? [];
  const unknown = page.ticks?.unknown.length ? "Not computed here: the trigger is a class of the application's own." : "No further run is planned.";
  list($("job-next"), ticks.map(tickWords), unknown);
  list($("job-skips"), page.skips.map((skip) => skipWords({ ...skip, first: Date.parse(skip.first_due), last: Date.parse(skip.last_due) })), "None is kept.");
  list($("job-changes"), page.changes.map(changeWords), "None is kept.");
}

function changeWords(change) {
  const what = [change.before, change.after].filter(Boolean).join(" → ");
  return `${clock(Date.parse(change.at))}: ${change.action} by ${change.by}${what && `: ${what}`}`;
}

function list(element, lines, none) {
  element.replaceChildren(...(lines.length ? lines : [none]).map((words) => node("li", {}, words)));
}

function tickWords(tick) {
  const local = tick.timezone && tick.timezone !== ZONE ? `, ${tick.local.slice(0, 19).replace("T", " ")} in ${tick.timezone}` : "";
  const shift = tick.clock_change_s === null ? "" : `; the clocks there are put ${tick.clock_change_s > 0 ? "forward" : "back"} near it`;
  return `${clock(Date.parse(tick.due))}${local}${shift}${tick.jitter_s ? `, up to ${duration(tick.jitter_s * 1000)} later` : ""}`;
}

function skipWords(skip) {
  const when = skip.first === skip.last ? clock(skip.last) : `${clock(skip.first)} – ${clock(skip.last)}`;
  const ticks = skip.count === 1 ? "" : ` (${skip.count === null ? "many ticks" : count(skip.count, "tick")})`;
  return `${when}${ticks}: ${skip.reason}, ${SKIPPED[skip.reason] ?? skip.reason}`;
}

function shortened(text) {
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

// --- one run -----------------------------------------------------------------------------------------------------------

// The run that the address names; else the latest that did not succeed, which stays while it is read.
function choosePageRun(page, runs) {
  const failed = runs.findLast((run) => FAILURES.has(run.outcome));
  const wanted = place.run ? Number(place.run) : page.chosen !== null && page.isDefault ? page.chosen : failed?.seq ?? null;
  page.isDefault = !place.run;
  if (wanted !== page.chosen) {
    [page.chosen, page.run, page.runProblem] = [wanted, null, null];
    if (wanted !== null) readRun(page, wanted);
  }
  show($("run"), page.chosen !== null);
  if (page.chosen === null) return;
  const { run } = page;
  const fits = run === null || run.job_id === page.id;
  say($("run-title"), `${place.run ? "Run" : "The latest failure, run"} ${page.chosen}`);
  if (page.runProblem !== null) say($("run-facts"), `It cannot be read: ${page.runProblem}.`);
  else if (run === null) say($("run-facts"), "Loading …");
  else say($("run-facts"), fits ? runFacts(run) : `It is a run of another job, ${run.job_id}.`);
  const before = fits ? run?.attempts ?? [] : [];
  const drawnFor = JSON.stringify(before);
  if ($("run-attempts").dataset.drawnFor !== drawnFor) {
    $("run-attempts").dataset.drawnFor = drawnFor;
    list($("run-attempts"), before.map(attemptWords), "");
  }
  show($("run-attempts"), before.length > 0);
  say($("run-log"), run && fits ? run.logs.map(attemptText).join("\n\n") || run.error || "It logged nothing." : "");
  show($("run-log"), run !== null && fits);
}

async function readRun(page, seq) {
  try {
    const run = await read(`runs/${seq}`);
    if (page.chosen === seq) [page.run, page.runProblem] = [run, null];
  } catch (error) {
    if (page.chosen === seq) page.runProblem = error.message;
  }
  changed();
}

function runFacts(entry) {
  const run = fromEntry(entry);
  const took = run.end === null ? "" : ` in ${duration(run.end - run.at)}`;
  const tick = run.asked ? `Run by hand at ${clock(run.due, true)}` : `Due at ${clock(run.due, true)}, ${duration(lateOf(run))} late`;
  return `${tick}: ${OUTCOME[run.outcome || "running"]}${took}, attempt ${run.attempt}, in term ${run.term}. Times are those of ${ZONE}.${run.error ? ` ${run.error}` : ""}`;
}

function attemptWords(attempt) {
  return `Attempt ${attempt.attempt}, in term ${attempt.term}, ${OUTCOME[attempt.outcome]}${attempt.ended_at ? ` at ${clock(Date.parse(attempt.ended_at), true)}` : ""}${attempt.error ? `: ${attempt.error}` : ""}`;
}

function attemptText(log) {
  const lines = log.lines.map((line) => `${clock(Date.parse(line.at), true)} ${line.level} ${line.logger}: ${line.text}`);
  if (log.dropped) lines.unshift(`(${count(log.dropped, "earlier line")} not kept)`);
  return [`Attempt ${log.attempt}`, ...lines, ...(log.traceback ? [log.traceback] : [])].join("\n");
}

function listenForJob() {
  on($("older"), "click", readOlder);
  on($("history"), "click", (event) => {
    const run = event.target.closest("[data-run]");
    if (run) location.hash = placeOf({ run: run.dataset.run });
  });
}
