// Pausing, resuming and running jobs. The token is kept in memory, and nowhere else.

const PATIENT = 5000; // ms: a busy ledger may take its time

const control = { token: "" };

const REFUSED = {
  401: "the token is missing or wrong",
  404: "there is no such job, or no control",
  429: "too many tries; wait a moment",
};

const DONE = { pause: "is paused", resume: "is resumed", run: "runs within a heartbeat" };

async function tell(job, what) {
  const name = jobName(job);
  say($("said"), `Asking for ${name} …`);
  let words;
  try {
    const answer = await ask(`jobs/${encodeURIComponent(job)}/${what}`, {
      method: "POST",
      timeout: PATIENT,
      headers: { Authorization: `Bearer ${bytes(control.token)}` },
    });
    words = answer.ok ? `${name} ${DONE[what]}.` : `${firstCapital(name)} was left as it is: ${await reason(answer)}.`;
    if (answer.status === 401) lock();
  } catch {
    words = `No answer for ${name}: the worker may have died. Look whether it was done, and try again.`;
  }
  say($("said"), words);
}

async function reason(answer) {
  if (REFUSED[answer.status]) return REFUSED[answer.status];
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
  $("token").value = "";
  changed();
}

function tellControl() {
  const unlocked = control.token !== "";
  show($("unlock"), state.controls);
  show($("token"), !unlocked);
  show($("unlock").querySelector("label"), !unlocked);
  say($("unlocking"), unlocked ? "Forget the token" : "Show controls");
  show(document.querySelector("th.control"), unlocked && state.controls);
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
      say($("said"), control.token === "" ? "Enter the admin token first." : "The jobs can be controlled now.");
      changed();
    }
  });
}
