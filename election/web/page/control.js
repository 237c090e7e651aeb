// Pausing, resuming and running jobs. The token is kept in memory, and nowhere else; where the application decides, its
// cookies go with each request, and the header that a form of another site cannot send.

const PATIENT = 5000; // ms: a busy ledger may take its time

const control = { token: "", allowed: null }; // allowed: by the application; null if it has not been asked

const REFUSED = {
  401: "the token is missing or wrong",
  404: "there is no such job, or no control",
  429: "too many tries; wait a moment",
};

function unlocked() {
  return state.controls === "application" ? control.allowed === true : state.controls === "token" && control.token !== "";
}

function credentials() {
  return state.controls === "application" ? { "X-Election-Control": "1" } : { Authorization: `Bearer ${bytes(control.token)}` };
}

async function askApplication() {
  control.allowed = false;
  try {
    control.allowed = (await ask("control", { timeout: PATIENT, headers: credentials() })).ok;
  } catch {
    control.allowed = null;
  }
  if (control.allowed) changed();
}

const DONE = { pause: "is paused", resume: "is resumed" };

const FOLLOWED = 120000; // ms: how long a run that was asked for is followed

// The answer stands beside the button, and where a screen reader hears of it.
function answered(job, words) {
  say($("said"), words);
  const row = jobRows.get(job);
  if (row) say(row.answer, words);
}

async function tell(job, what) {
  const name = jobName(job);
  answered(job, `Asking for ${name} …`);
  let words;
  try {
    const answer = await ask(`jobs/${encodeURIComponent(job)}/${what}`, {
      method: "POST",
      timeout: PATIENT,
      headers: credentials(),
    });
    if (answer.ok && what === "run") {
      await follow(job, (await answer.json()).request);
      return;
    }
    words = answer.ok ? `${name} ${DONE[what]}.` : `${firstCapital(name)} was left as it is: ${await reason(answer)}.`;
    if (answer.status === 401) lock();
  } catch {
    words = `No answer for ${name}: the worker may have died. Look whether it was done, and try again.`;
  }
  answered(job, words);
}

// What becomes of a run that was asked for: whether it ran, and how it ended.
async function follow(job, request) {
  const name = jobName(job);
  for (const until = performance.now() + FOLLOWED; performance.now() < until; ) {
    const words = await fate(name, request);
    answered(job, words.text);
    if (words.done) return;
    await new Promise((done) => setTimeout(done, POLL));
  }
  answered(job, `${name} has not ended yet; its last run is in the table.`);
}

async function fate(name, request) {
  try {
    const found = await (await ask(`requests/${request}`)).json();
    if (found.outcome === null) return { text: `${name} is to be run; the leader has not read it yet.` };
    if (found.run === null) return { done: true, text: `${name} was not run: ${found.outcome}, ${SKIPPED[found.reason] ?? found.reason}.` };
    const run = await (await ask(`runs/${found.run}`)).json();
    if (run.outcome === null) return { text: `${name} runs.` };
    const took = duration(Date.parse(run.ended_at) - Date.parse(run.claimed_at));
    return { done: true, text: `${name} ${OUTCOME[run.outcome]} in ${took}${run.error ? `: ${run.error}` : ""}.` };
  } catch {
    return { text: `No answer for ${name}; asking again.` };
  }
}

async function reason(answer) {
  if (REFUSED[answer.status] && (state.controls === "token" || answer.status !== 401)) return REFUSED[answer.status];
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`;
  }
}

// A header holds bytes; those of the token are UTF-8, as in the server's environment.
function bytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function lock() {
  control.token = "";
  control.allowed = null;
  $("token").value = "";
  changed();
}

async function tryToken() {
  let words;
  try {
    const answer = await ask("control", { timeout: PATIENT, headers: credentials() });
    words = answer.ok ? "The jobs can be controlled now." : `The token was not accepted: ${await reason(answer)}.`;
    if (!answer.ok) control.token = "";
  } catch {
    words = "No answer: the worker may have died. Try again.";
    control.token = "";
  }
  say($("said"), words);
  changed();
}

function tellControl() {
  if (state.controls === "application" && control.allowed === null) askApplication();
  show($("unlock"), state.controls === "token");
  show($("token"), !unlocked());
  show($("unlock").querySelector("label"), !unlocked());
  say($("unlocking"), unlocked() ? "Forget the token" : "Show controls");
  show(document.querySelector("th.control"), unlocked());
}

function listenForToken() {
  $("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    if (control.token !== "") {
      lock();
      $("token").focus();
      say($("said"), "The token is forgotten.");
    } else {
      control.token = $("token").value.trim();
      $("token").value = "";
      if (control.token === "") say($("said"), "Enter the admin token first.");
      else tryToken();
    }
  });
}
