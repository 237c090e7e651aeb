// Pausing, resuming and running jobs. The token is kept in memory, and nowhere else; where the application decides, its
// cookies go with each request, and the header that a form of another site cannot send.

const control = { token: "", isAccepted: false, isAsked: false, answers: new Map() }; // isAsked: the application

// Whether the token was accepted, or the application allows changes.
function mayControl() {
  return Boolean(state.controls) && control.isAccepted;
}

async function askApplication() {
  control.isAsked = true;
  try {
    control.isAccepted = (await ask("control", { timeout: PATIENT, headers: authorized() })).ok;
  } catch {
    control.isAsked = false;
  }
  if (control.isAccepted) changed();
}

const REFUSED = {
  401: "the token is missing or wrong",
  404: "there is no such job, or no control",
  429: "too many tries; wait a moment",
};

const DONE = { pause: "is paused", resume: "is resumed" };

const FOLLOWED = 120000; // ms: how long a run that was asked for is followed

// The answer stands beside the button, and where a screen reader hears of it.
function answered(job, words) {
  say($("said"), words);
  control.answers.set(job, words);
  wake();
  changed();
}

// The buttons of a job, made when they are first shown. job: null for none.
function tellButtons(area, job) {
  const isShown = mayControl() && job !== null;
  show(area, isShown);
  if (!isShown) return;
  area.job = job;
  if (!area.firstElementChild) {
    area.append(node("button", { type: "button" }), node("button", { type: "button" }, "Run now"), node("span", { class: "answer" }));
    on(area.children[0], "click", () => tell(area.job.id, area.job.paused ? "resume" : "pause"));
    on(area.children[1], "click", () => tell(area.job.id, "run"));
    if (area.id) {
      area.children[1].after(node("button", { type: "button" }, "Run with …"));
      on(area.children[2], "click", () => runWith(area.job.id));
    }
  }
  const [pause, run] = area.children;
  const [name, words] = [nameOf(job), job.paused ? "Resume" : "Pause"];
  say(pause, words);
  mark(pause, "aria-label", `${words} ${name}`);
  mark(run, "aria-label", `Run ${name} now`);
  say(area.lastElementChild, control.answers.get(job.id) ?? "");
}

// On the job's page: asks for arguments, which take the place of the job's own of these names.
function runWith(job) {
  const text = prompt(`Arguments for this run of ${jobName(job)}, as JSON`, "{}");
  if (text === null) return;
  try {
    JSON.parse(text);
    tell(job, "run", `{"kwargs":${text}}`); // as it was typed: a number of JavaScript has fewer digits
  } catch (error) {
    answered(job, `These arguments are no JSON: ${error.message}.`);
  }
}

async function tell(job, what, body) {
  const name = jobName(job);
  answered(job, `${name}: request sent …`);
  let words;
  try {
    const answer = await ask(`jobs/${encodeURIComponent(job)}/${what}`, {
      method: "POST",
      timeout: PATIENT,
      headers: { ...authorized(), "Content-Type": "application/json" },
      body,
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
  for (const until = elapsed() + FOLLOWED; elapsed() < until; ) {
    const words = await fate(name, request);
    answered(job, words.text);
    if (words.done) return;
    await pause(POLL);
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
    return { text: `No answer for ${name}; trying again.` };
  }
}

async function reason(answer) {
  if (answer.status === 401 && state.controls === "application") return detail(answer);
  return REFUSED[answer.status] ?? detail(answer);
}

// A header holds bytes; those of the token are UTF-8, as in the server's environment.
function authorized() {
  if (state.controls === "application") return { "X-Election-Control": "1" };
  return { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(control.token))}` };
}

function lock() {
  [control.token, control.isAccepted, control.isAsked, shownJob.args] = ["", false, false, null];
  $("token").value = "";
  changed();
}

async function tryToken() {
  let words;
  try {
    const answer = await ask("control", { timeout: PATIENT, headers: authorized() });
    words = answer.ok ? "The jobs can be controlled now." : `The token was not accepted: ${await reason(answer)}.`;
    control.isAccepted = answer.ok;
    if (!answer.ok) control.token = "";
  } catch {
    words = "No answer: the worker may have died. Try again.";
    control.token = "";
  }
  say($("said"), words);
  changed();
}

function tellControl() {
  if (state.controls === "application" && !control.isAsked) askApplication();
  const unlocked = mayControl();
  show($("unlock"), state.controls === "token");
  show($("token"), !unlocked);
  show($("unlock").querySelector("label"), !unlocked);
  say($("unlocking"), unlocked ? "Forget the token" : "Show controls");
  show(document.querySelector("th.control"), unlocked);
  $("jobs-table").classList.toggle("controlled", unlocked);
}

function listenForToken() {
  on($("unlock"), "submit", (event) => {
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
