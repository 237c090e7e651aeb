// The header in words, and the tables behind the picture.

const LISTED = 60; // rows of the table behind the picture

const ICON = $("icon").href;
const ICONS = { led: "3567b0", silent: "9a5b00", electing: "bf3410", stale: "6b7480" };

// The heading's kind also colours the icon, which is seen when the page is not.
function tellKind(kind, title) {
  document.title = isolated(`${title}${place.job && ` · ${jobName(place.job)}`} · election`);
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
  const known = pool.leader ? `worker ${workerName(pool.leader)} led, in term ${pool.leader.term}` : "nobody led";
  say($("how"), `At ${clock(state.toldAt)} ${known}. All below is of that time; later events are not shown.`);
  mark($("heart"), "class", "none");
  say($("heart").lastElementChild, "not known");
}

function tellHeader(now) {
  const pool = state.pool;
  const leader = pool.leader;
  say($("pool"), `${pool.pool} · ${pool.engine} engine`);
  const takeover = pool.last_takeover;
  if (leader) tellKind(leader.responsive ? "led" : "silent", leader.responsive ? `${workerName(leader)} leads term ${leader.term}` : `${workerName(leader)} hangs`);
  else tellKind("electing", "nobody leads");
  if (leader) {
    const since = Date.parse(leader.elected_at);
    say($("who"), `Worker ${workerName(leader)} ${leader.responsive ? "leads" : "hangs"}, in term ${leader.term}`);
    const began = takeover && takeover.term === leader.term && takeover.from_pid !== null
      ? ` It took over from worker ${workerName(leaderBefore(takeover.term, takeover.from_pid))}, which ${ENDED[takeover.reason] ?? takeover.reason}${takeover.takeover_ms === null ? "" : `, in ${tookWords(takeover)}`}.`
      : "";
    const heart = leader.responsive ? "Its heartbeats arrive." : `No heartbeat for ${duration(leader.heartbeat_age_s * 1000)}: it hangs, is stopped, or the machine is overloaded.`;
    say($("how"), `Since ${clock(since)}, for ${duration(Math.max(now - since, 1000))}${state.isSpread ? "" : `, on ${leader.host}`}.${began} ${heart}`);
  } else {
    say($("who"), pool.workers.length ? "Nobody leads" : "Nobody is known to lead");
    say($("how"), takeover && pool.workers.length ? `The last to lead was worker ${workerName(leaderBefore(takeover.term + 1, takeover.to_pid))}, in term ${takeover.term}. An election is under way.` : "");
  }
  tellProblem([pool.problem, state.live.problem]);
  const heart = $("heart");
  mark(heart, "class", leader ? (leader.responsive ? "beats" : "silent") : "none");
  heart.firstElementChild.classList.toggle("low", now % 2000 < 1000); // an animation would draw sixty times a second
  say(heart.lastElementChild, leader ? (leader.heartbeat_age_s < 1 ? "< 1 s ago" : `${duration(leader.heartbeat_age_s * 1000)} ago`) : "none");
  say($("term"), leader ? String(leader.term) : "–");
  say($("takeover"), takeover && takeover.takeover_ms !== null ? tookWords(takeover) : "–");
  say($("workers"), String(pool.workers.length));
}

// How long a takeover took, and how long nobody led: from the end of the term before, or its last heartbeat.
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

// What an operator is to look at first, worst first. While a leader works, a tick may wait for the job's run before.
const ATTENTION = [
  ["broken", (job) => job.broken],
  ["failing", (job) => !job.broken && FAILURES.has(endedOutcome(job))],
  ["owed", (job, now) => !job.broken && !job.paused && isOwed(job, now) && !(job.running && isLed())],
  ["running for over an hour", (job, now) => job.running_since && now - Date.parse(job.running_since) > LONG_MS],
  ["paused", (job) => job.paused],
];

const FAILURES = new Set(["failed", "interrupted"]);

function isLed() {
  const { leader } = state.pool;
  return leader !== null && leader.responsive && !isStale();
}

// Whether the tick should have been claimed by the time at which it was read.
function isOwed(job, now) {
  return job.next_run_time && Date.parse(job.next_run_time) < Math.min(now, job.readAt ?? state.toldAt) - (isLed() ? 2000 : 0);
}

function tellAttention(now) {
  const { jobs_total } = state.pool;
  const jobs = allJobs();
  const found = ATTENTION.map(([words, which]) => [words, jobs.filter((job) => which(job, now))]).filter(([, some]) => some.length);
  const area = $("attention");
  const among = jobs.length < jobs_total ? `among the ${NUMBER.format(jobs.length)} of ${count(jobs_total, "job")} listed here` : "";
  const drawnFor = placeOf({}) + among + JSON.stringify(found.map(([words, some]) => [words, some.map((job) => [job.id, job.name])]));
  if (area.dataset.drawnFor !== drawnFor) {
    area.dataset.drawnFor = drawnFor;
    area.replaceChildren(...found.map(([words, some]) => attentionLine(words, some)), ...(among ? [node("span", {}, among)] : []));
  }
  const fine = found.length === 0 && isLed() && !state.pool.problem;
  mark(area, "class", `attention${fine ? " fine" : ""}`);
  show(area, fine || found.length > 0);
}

function attentionLine(words, some) {
  const line = node("span", {}, `${some.length} ${words}: `);
  some.slice(0, NAMED).forEach((job, at) => line.append(at ? ", " : "", jobLink(job.id)));
  const more = placeOf({ job: "", run: "", q: "", tag: "", outcome: "attention", sort: "" });
  if (some.length > NAMED) line.append(", and ", node("a", { href: more }, `${some.length - NAMED} more`));
  return line;
}

function tellCounts(counts) {
  if (counts === null) {
    say($("counts"), isCounted() && !byCounts.told?.complete ? "counting" : "too many to count here");
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
    say(link, `live · answered by ${workerName(state.pool.answered_by)}`);
  }
  mark(link, "class", state.answeredAt !== null && !(silent > 2500 && state.failures) ? "link live" : "link");
}

// --- behind the picture ----------------------------------------------------------------------------------------------

function fill(table, rows) {
  const body = table.tBodies[0];
  const signature = JSON.stringify([place, rows]);
  if (body.dataset.signature === signature) return;
  body.dataset.signature = signature;
  const kinds = [...table.tHead.rows[0].cells].map((cell) => cell.className || null);
  body.replaceChildren(...rows.map(([first, ...cells]) =>
    node("tr", {}, node("th", { scope: "row" }, first), ...cells.map((cell, at) => node("td", { class: kinds[at + 1] }, filler(cell))))));
}

// A cell is text, or a link to a job or one of its runs.
function filler(cell) {
  return typeof cell === "string" ? cell : jobLink(cell.job, cell.words, { run: cell.run });
}

function tellTables({ terms, runs, skips }, store) {
  if (!$("behind").open) return;
  fill($("terms-table"), [...terms].reverse().slice(0, LISTED).map((term) => [
    String(term.term), workerName(term), clock(term.at, true), term.end === null ? "now" : clock(term.end, true),
    firstCapital(beginning(term)), term.ms === null ? "–" : duration(term.ms),
    term.end === null ? "–" : firstCapital(ENDED[term.how] ?? term.how),
  ]));
  const pid = (entry) => workerName(store.terms.get(entry.term) ?? { pid: "–" });
  const rows = runs.slice(-LISTED).map((run) => [run.at, [
    clock(run.due, true), { job: run.job, run: run.seq }, firstCapital(OUTCOME[outcome(run)]) + (run.error ? `: ${run.error.slice(0, 200)}` : ""),
    String(run.term), pid(run), run.asked ? "–" : duration(lateOf(run)), run.end === null ? "–" : duration(run.end - run.at),
  ]]);
  for (const skip of skips.slice(-LISTED)) {
    rows.push([skip.last, [
      clock(skip.last, true), { job: skip.job },
      `${skip.count === null ? "Many ticks" : firstCapital(count(skip.count, "tick"))} skipped: ${skip.reason}, ${SKIPPED[skip.reason] ?? ""}`,
      String(skip.term), pid(skip), "–", "–",
    ]]);
  }
  const table = $("runs-table");
  say(table.caption, isCounted() ? "Counts in view, latest first" : "The latest runs and skips in view");
  say(table.tHead.rows[0].cells[0], isCounted() ? "Period" : "Due");
  fill(table, isCounted() ? countRows() : rows.sort((one, other) => other[0] - one[0]).slice(0, LISTED).map(([, row]) => row));
}
