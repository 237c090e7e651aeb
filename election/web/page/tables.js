// The header in words, the jobs, and the tables behind the picture. Rows are kept and changed, so that the focus stays.

const RECENT = 24; // runs in a job's strip
const LISTED = 60; // rows of the table behind the picture

const ICON = $("icon").href;
const ICONS = { led: "3567b0", silent: "9a5b00", electing: "bf3410", stale: "6b7480" };

// The heading's kind also colours the icon, which is seen when the page is not.
function tellKind(kind, title) {
  document.title = `${title} · election`;
  mark($("who"), "class", kind);
  mark($("icon"), "href", ICON.replace("3567b0", ICONS[kind]));
  document.body.classList.toggle("stale", kind === "stale");
}

// Nobody answers: what was known last, and since when nothing more is.
function tellStale() {
  tellKind("stale", "no answer");
  const pool = state.pool;
  say($("who"), pool === null ? "No worker answers" : `No worker has answered for ${duration(silence())}`);
  if (pool === null) return;
  const known = pool.leader ? `worker ${pool.leader.pid} led, in term ${pool.leader.term}` : "nobody led";
  say($("how"), `At ${clock(state.toldAt)} ${known}. All below is as it was then; what has happened since is not known here.`);
  mark($("heart"), "class", "none");
  say($("heart").lastElementChild, "not known");
}

function tellHeader(now) {
  const pool = state.pool;
  const leader = pool.leader;
  say($("pool"), `${pool.pool} · ${pool.engine} engine`);
  const takeover = pool.last_takeover;
  if (leader) tellKind(leader.responsive ? "led" : "silent", leader.responsive ? `${leader.pid} leads term ${leader.term}` : `${leader.pid} hangs`);
  else tellKind("electing", "nobody leads");
  if (leader) {
    const since = Date.parse(leader.elected_at);
    say($("who"), `Worker ${leader.pid} leads, in term ${leader.term}`);
    const began = takeover && takeover.term === leader.term && takeover.from_pid !== null
      ? ` It took over from worker ${takeover.from_pid}, which ${ENDED[takeover.reason] ?? takeover.reason}${takeover.takeover_ms === null ? "" : `, in ${tookWords(takeover)}`}.`
      : "";
    const heart = leader.responsive ? "Its heart beats." : `Its heart has not beaten for ${duration(leader.heartbeat_age_s * 1000)}: it hangs, is stopped, or the machine is overloaded.`;
    say($("how"), `Since ${clock(since)}, for ${duration(Math.max(now - since, 1000))}, on ${leader.host}.${began} ${heart}`);
  } else {
    say($("who"), pool.workers.length ? "Nobody leads" : "Nobody is known to lead");
    say($("how"), takeover && pool.workers.length ? `The last to lead was worker ${takeover.to_pid}, in term ${takeover.term}. An election is under way.` : "");
  }
  tellProblem([pool.problem, state.live.problem]);
  const heart = $("heart");
  mark(heart, "class", leader ? (leader.responsive ? "beats" : "silent") : "none");
  say(heart.lastElementChild, leader ? (leader.heartbeat_age_s < 1 ? "< 1 s ago" : `${duration(leader.heartbeat_age_s * 1000)} ago`) : "none");
  say($("term"), leader ? String(leader.term) : "–");
  say($("takeover"), takeover && takeover.takeover_ms !== null ? tookWords(takeover) : "–");
  say($("workers"), String(pool.workers.length));
}

// How long a takeover took, and how long nobody led: from the last sign of life of the leader before.
function tookWords(takeover) {
  const vacant = takeover.vacant_s === null ? "" : `, vacant ${duration(takeover.vacant_s * 1000)}`;
  return `${duration(takeover.takeover_ms)}${vacant}`;
}

function tellProblem(problems) {
  const words = [...new Set(problems.filter(Boolean))].join(" · ");
  say($("problem"), words);
  show($("problem"), words !== "");
}

const NAMED = 4;
const LONG_MS = 3600e3;

// What an operator is to look at first, of the jobs shown; each name leads to its row.
function tellAttention(now) {
  const { jobs, jobs_total, leader } = state.pool;
  const alive = leader !== null && leader.responsive;
  const ended = (job) => state.last[job.id]?.outcome;
  const kinds = [
    ["broken", (job) => job.broken],
    ["failing", (job) => !job.broken && ["failed", "interrupted"].includes(ended(job))],
    ["owed", (job) => !job.broken && !job.paused && job.next_run_time && Date.parse(job.next_run_time) < now - (alive ? 2000 : 0)],
    ["running for over an hour", (job) => job.running_since && now - Date.parse(job.running_since) > LONG_MS],
    ["paused", (job) => job.paused],
  ];
  const found = kinds.map(([words, which]) => [words, jobs.filter(which)]).filter(([, some]) => some.length);
  const area = $("attention");
  const drawnFor = JSON.stringify(found.map(([words, some]) => [words, some.map((job) => job.name || job.id)]));
  if (area.dataset.drawnFor !== drawnFor) {
    area.dataset.drawnFor = drawnFor;
    area.replaceChildren(...found.map(([words, some]) => attentionLine(words, some)));
  }
  const fine = found.length === 0 && alive && !state.pool.problem;
  mark(area, "class", `attention${fine ? " fine" : ""}`);
  mark(area, "title", jobs_total > jobs.length ? `Of the ${jobs.length} jobs that are shown` : "");
  show(area, fine || found.length > 0);
}

function attentionLine(words, some) {
  const links = some.slice(0, NAMED).map((job) => node("a", { href: `#${rowId(job.id)}` }, job.name || job.id));
  const line = node("span", {}, `${some.length} ${words}: `);
  links.forEach((link, at) => line.append(at ? ", " : "", link));
  if (some.length > NAMED) line.append(`, and ${some.length - NAMED} more`);
  return line;
}

function rowId(job) {
  return `job-${encodeURIComponent(job)}`;
}

function tellCounts(counts) {
  if (counts === null) {
    say($("counts"), "too many to count here");
    return;
  }
  const rest = ["failed", "interrupted", "running", "skipped"].filter((kind) => counts[kind]);
  say($("counts"), [`${NUMBER.format(counts.succeeded)} ok`, ...rest.map((kind) => `${NUMBER.format(counts[kind])} ${kind}`)].join(" · "));
}

function tellLink() {
  const silent = silence();
  const link = $("link");
  if (state.answeredAt === null) {
    say(link, state.failures > 3 ? "no answer; trying again" : "connecting");
  } else if (silent > 2500 && state.failures) {
    say(link, `no answer for ${duration(silent)}; trying again`);
  } else {
    say(link, `live · answered by ${state.pool.answered_by.pid}`);
  }
  mark(link, "class", state.answeredAt !== null && !(silent > 2500 && state.failures) ? "link live" : "link");
}

// --- jobs ----------------------------------------------------------------------------------------------------------

const jobRows = new Map();

function tellJobs(now, runs) {
  const jobs = state.pool.jobs;
  const body = $("jobs-table").tBodies[0];
  const recent = new Map(jobs.map((job) => [job.id, []]));
  for (const run of runs) recent.get(run.job)?.push(run);
  for (const [id, row] of jobRows) {
    if (!recent.has(id)) {
      row.row.remove();
      jobRows.delete(id);
    }
  }
  jobs.forEach((job, at) => {
    if (!jobRows.has(job.id)) jobRows.set(job.id, newJobRow(job.id));
    const row = jobRows.get(job.id);
    if (body.rows[at] !== row.row) body.insertBefore(row.row, body.rows[at] ?? null);
    tellJob(row, job, state.last[job.id], recent.get(job.id), now);
  });
  show($("no-jobs"), jobs.length === 0);
  const more = state.pool.jobs_total - jobs.length;
  say($("more-jobs"), `${more} more jobs are not shown: those above are the code's and those due soonest. All of them, in pages: /leader/jobs`);
  show($("more-jobs"), more > 0);
}

function newJobRow(id) {
  const parts = {
    name: node("span", { class: "name" }),
    about: node("span", { class: "about" }),
    next: node("td"),
    last: node("td"),
    late: node("td", { class: "number" }),
    strip: node("td", { class: "strip" }),
    control: node("td", { class: "control" }),
  };
  parts.mark = node("span");
  parts.words = node("span", { class: "words" });
  parts.why = node("button", { type: "button", class: "why" }, "Why?");
  parts.last.append(parts.mark, parts.words, parts.why);
  parts.why.addEventListener("click", () => showRun(parts.seq));
  parts.pause = node("button", { type: "button" }, "Pause");
  parts.run = node("button", { type: "button" }, "Run now");
  parts.answer = node("span", { class: "answer" });
  parts.control.append(parts.pause, parts.run, parts.answer);
  parts.pause.addEventListener("click", () => tell(id, parts.paused ? "resume" : "pause"));
  parts.run.addEventListener("click", () => tell(id, "run"));
  parts.row = node("tr", { "data-job": id, id: rowId(id), tabindex: -1 }, node("th", { scope: "row" }, parts.name, parts.about), parts.next, parts.last, parts.late, parts.strip, parts.control);
  return parts;
}

function tellJob(parts, job, last, recent, now) {
  say(parts.name, job.name || job.id);
  const about = [job.name && job.name !== job.id ? job.id : "", job.description, job.trigger, job.timezone, ...(job.tags || []).map((tag) => `#${tag}`)];
  if (job.timezone) about[about.indexOf(job.timezone)] = `by the clocks of ${job.timezone}`;
  say(parts.about, about.filter(Boolean).join(" · "));
  say(parts.next, nextWords(job, now));
  mark(parts.next, "class", job.broken ? "bad" : job.paused ? "paused" : "");
  mark(parts.mark, "class", last ? `dot ${outcome(last)}` : "dot");
  say(parts.words, last ? lastWords(last, now) : "not yet");
  parts.seq = last && last.seq;
  show(parts.why, Boolean(last && last.error));
  mark(parts.why, "aria-label", `Why did ${job.name || job.id} fail?`);
  say(parts.late, last && !last.asked ? duration(last.at - last.due) : "–");
  drawStrip(parts, recent.slice(-RECENT));
  parts.paused = job.paused;
  say(parts.pause, job.paused ? "Resume" : "Pause");
  const name = job.name || job.id;
  mark(parts.pause, "aria-label", `${job.paused ? "Resume" : "Pause"} ${name}`);
  mark(parts.run, "aria-label", `Run ${name} now`);
  show(parts.control, unlocked());
}

function nextWords(job, now) {
  if (job.broken) return `broken: ${job.broken}`;
  if (job.paused) return "paused";
  if (!job.next_run_time) return "none";
  const at = Date.parse(job.next_run_time);
  const left = at - now;
  const led = state.pool.leader !== null && state.pool.leader.responsive && !isStale();
  if (left < (led ? -2000 : 0)) return `owed since ${clock(at)}`;
  if (!led) return `${clock(at)}, if somebody leads then`;
  if (left < 1500) return `${clock(at)}, now`;
  return `${clock(at)}, in ${duration(Math.round(left / 1000) * 1000)}`;
}

function lastWords(run, now) {
  if (run.end === null) return `running for ${duration(Math.max(now - run.at, 0))}`;
  const ago = now - run.end;
  const words = `${run.outcome}, ${ago < 1500 ? "just now" : `${duration(Math.round(ago / 1000) * 1000)} ago`}`;
  return run.error && run.outcome !== "succeeded" ? `${words}: ${run.error}` : words;
}

// The latest runs of a job: a column each, as high as it took long.
function drawStrip(parts, runs) {
  const drawnFor = runs.map((run) => run.seq + outcome(run)).join();
  if (parts.drawnFor === drawnFor) return;
  parts.drawnFor = drawnFor;
  const took = runs.map((run) => Math.max((run.end ?? serverNow()) - run.at, 0.1));
  const [least, most] = [Math.log(Math.min(...took)), Math.log(Math.max(...took))];
  const columns = runs.map((run, at) => {
    const height = 6 + (most - least > 0.2 ? ((Math.log(took[at]) - least) / (most - least)) * 12 : 4);
    const kind = outcome(run);
    return drawn("rect", { class: `column ${kind}`, x: (RECENT - runs.length + at) * 5, y: (20 - height).toFixed(1), width: 3, height: height.toFixed(1) });
  });
  const words = countsOf(runs, []);
  const label = runs.length ? `the latest ${count(runs.length, "run")} in view: ${["succeeded", "failed", "interrupted", "running"].filter((kind) => words[kind]).map((kind) => `${words[kind]} ${kind}`).join(", ")}` : "no run in view";
  parts.strip.replaceChildren(drawn("svg", { viewBox: `0 0 ${RECENT * 5} 20`, width: RECENT * 5, height: 20, role: "img", "aria-label": label }, ...columns));
}

// --- behind the picture ----------------------------------------------------------------------------------------------

function fill(table, rows) {
  const body = table.tBodies[0];
  const signature = JSON.stringify(rows);
  if (body.dataset.signature === signature) return;
  body.dataset.signature = signature;
  const kinds = [...table.tHead.rows[0].cells].map((cell) => cell.className || null);
  body.replaceChildren(...rows.map(([first, ...cells]) =>
    node("tr", {}, node("th", { scope: "row" }, first), ...cells.map((cell, at) => node("td", { class: kinds[at + 1] }, cell)))));
}

function tellTables({ terms, runs, skips }, store) {
  if (!$("behind").open) return;
  fill($("terms-table"), [...terms].reverse().slice(0, LISTED).map((term) => [
    String(term.term), String(term.pid), clock(term.at, true), term.end === null ? "now" : clock(term.end, true),
    firstCapital(beginning(term)), term.ms === null ? "–" : duration(term.ms),
    term.end === null ? "–" : firstCapital(ENDED[term.how] ?? term.how),
  ]));
  const pid = (entry) => String(store.terms.get(entry.term)?.pid ?? "–");
  const rows = runs.slice(-LISTED).map((run) => [run.at, [
    clock(run.due, true), jobName(run.job), firstCapital(OUTCOME[outcome(run)]) + (run.error ? `: ${run.error.slice(0, 200)}` : ""),
    String(run.term), pid(run), run.asked ? "–" : duration(run.at - run.due), run.end === null ? "–" : duration(run.end - run.at),
  ]]);
  for (const skip of skips.slice(-LISTED)) {
    rows.push([skip.last, [
      clock(skip.last, true), jobName(skip.job),
      `${skip.count === null ? "Many ticks" : firstCapital(count(skip.count, "tick"))} skipped: ${skip.reason}, ${SKIPPED[skip.reason] ?? ""}`,
      String(skip.term), pid(skip), "–", "–",
    ]]);
  }
  fill($("runs-table"), rows.sort((one, other) => other[0] - one[0]).slice(0, LISTED).map(([, row]) => row));
}
