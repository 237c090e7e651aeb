// One run: its attempts, their tracebacks and what they logged.

async function showRun(seq) {
  const [title, facts, log] = [$("run-title"), $("run-facts"), $("run-log")];
  show($("run"), true);
  say(title, `Run ${seq}`);
  say(facts, "Asking …");
  say(log, "");
  $("run").focus();
  try {
    const answer = await ask(`runs/${seq}`, { timeout: PATIENT });
    if (!answer.ok) throw new Error(await reason(answer));
    const run = await answer.json();
    say(title, `${jobName(run.job_id)}, run ${run.seq}`);
    say(facts, runFacts(run));
    say(log, run.logs.map(attemptText).join("\n\n") || run.error || "It logged nothing.");
  } catch (error) {
    say(facts, `It cannot be read: ${error.message}.`);
  }
}

function runFacts(run) {
  const [due, at] = [Date.parse(run.due), Date.parse(run.claimed_at)];
  const took = run.ended_at === null ? "" : ` in ${duration(Date.parse(run.ended_at) - at)}`;
  return `${run.request ? "Run by hand at" : "Due at"} ${clock(due, true)} (${ZONE}), ${duration(at - due)} late: ${OUTCOME[run.outcome || "running"]}${took}, attempt ${run.attempt}, in term ${run.term}.${run.error ? ` ${run.error}` : ""}`;
}

function attemptText(log) {
  const lines = log.lines.map((line) => `${clock(Date.parse(line.at), true)} ${line.level} ${line.logger}: ${line.text}`);
  if (log.dropped) lines.unshift(`(${count(log.dropped, "earlier line")} not kept)`);
  return [`Attempt ${log.attempt}`, ...lines, ...(log.traceback ? [log.traceback] : [])].join("\n");
}

function listenForRun() {
  $("close-run").addEventListener("click", () => show($("run"), false));
}
