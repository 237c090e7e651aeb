// Puts the parts together.

let announced = null;
let isPlaced = false; // whether the stretch that the address names has been looked at

function changed() {
  showPlace();
  tellLink();
  if (isStale()) tellStale();
  if (state.pool === null) return;
  if (!isPlaced) {
    isPlaced = true; // by the clock of the server
    lookAtPlace();
  }
  const now = serverNow();
  const store = state.until === null ? state.live : state.past ?? newStore();
  const { from, to } = stretch();
  const found = place.job ? { runs: runsIn(store, { from, to }), skips: skipsIn(store, { from, to }) } : tellPicture(store, { from, to });
  if (!isStale()) tellHeader(now);
  tellCounts(found.counts !== undefined ? found.counts : store.every > 1 ? store.counts : countsOf(found.runs, found.skips));
  tellControl();
  if (isStale()) show($("attention"), false);
  else tellAttention(now);
  if (place.job) {
    tellJobPage(now);
  } else {
    tellRange(now, { from, to });
    tellNote(store);
    tellJobs(now);
    tellTables(found, store);
    tellComing();
  }
  announce();
}

function tellPicture(store, { from, to }) {
  const svg = $("picture");
  const width = Math.max($("timeline").clientWidth, 280);
  const found = isCounted() ? paintCounts(svg, width) : paint(svg, { store, from, to, width });
  const chosen = pointAt(svg, found.marks);
  if (chosen) tellDetails(chosen);
  return found;
}

// Either the pool or one job; both have the field for the token.
function showPlace() {
  const onJob = place.job !== "";
  if ($("job").hidden !== onJob) return;
  show($("job"), onJob);
  show($("pool-view"), !onJob);
  show($("facts"), !onJob);
  $(onJob ? "job-bar" : "jobs-bar").append($("unlock"));
  $(onJob ? "job-bar" : "jobs-bar").after($("said"));
}

let scrolledTo = 0; // in the list, before a job was opened

function go() {
  const [was, wasAt] = [{ ...place }, placeOf({})];
  if (was.job === "") scrolledTo = scrollY;
  readPlace();
  lookAtPlace();
  changed();
  if (place.job !== was.job && place.job) {
    scrollTo(0, 0);
    $("job").focus({ preventScroll: true });
  } else if (place.job) {
    $("run").scrollIntoView({ block: "nearest" });
    $("run").focus({ preventScroll: true });
  } else if (was.job) {
    scrollTo(0, scrolledTo);
    grid.rows.get(was.job)?.name.focus({ preventScroll: true });
  } else if (placeOf({}) !== wasAt) {
    $("jobs").scrollIntoView();
  }
}

let silent = false;

function announce() {
  if (isStale() !== silent) {
    silent = !silent;
    say($("announce"), silent ? "No worker answers. What is shown is not of now." : "A worker answers again.");
    return;
  }
  const takeover = state.pool.last_takeover;
  if (takeover === null || takeover.takeover_ms === null || takeover.term === announced) return;
  if (announced !== null) {
    const from = takeover.from_pid === null ? "" : ` from worker ${workerName(leaderBefore(takeover.term, takeover.from_pid))}, which ${ENDED[takeover.reason] ?? takeover.reason}`;
    say($("announce"), `Worker ${workerName(leaderBefore(takeover.term + 1, takeover.to_pid))} has taken over${from}, in ${duration(takeover.takeover_ms)}. It leads term ${takeover.term}.`);
  }
  announced = takeover.term;
}

function tellNote(store) {
  const words = [];
  const { told } = byCounts;
  if (isCounted() && !told?.complete) words.push(told?.problem ?? "Counting.");
  if (isCounted() && told?.periods.some((each) => each?.many)) words.push("Some periods have too many runs to count.");
  if (state.until !== null && state.past === null) words.push("Loading this part of the history.");
  if (store.every > 1) words.push(`Too many runs to show each: one in ${store.every} is drawn, and the latest of each job and of those that did not succeed. The counts are of all.`);
  say($("note"), words.join(" "));
  show($("note"), words.length > 0);
}

// --- which stretch is shown --------------------------------------------------------------------------------------------

function tellRange(now, { from, to }) {
  const begins = Math.min(state.begins ?? now, now - state.span);
  const slider = $("when");
  const share = state.until === null ? 1000 : Math.round(((to - begins - state.span) / Math.max(now - begins - state.span, 1)) * 1000);
  if (document.activeElement !== slider || state.until === null) slider.value = share;
  const words = `${clock(from)} – ${state.until !== null ? clock(to) : isStale() ? `${clock(to)}, the last answer` : "now"} · ${ZONE}`;
  mark(slider, "aria-valuetext", state.until === null ? "now" : `${clock(from)} to ${clock(to)}`);
  say($("stretch"), words);
  for (const button of document.querySelectorAll("[data-minutes]")) {
    mark(button, "aria-pressed", Number(button.dataset.minutes) * 60000 === state.span);
  }
  mark($("now"), "aria-pressed", state.until === null);
  const [noForward, noBack] = [state.until === null, isCounted() || from <= (state.begins ?? from)];
  if ($("forward").disabled !== noForward) $("forward").disabled = noForward;
  if ($("back").disabled !== noBack) $("back").disabled = noBack;
  if (slider.disabled !== isCounted()) slider.disabled = isCounted();
}

function setSpan(span) {
  state.span = span;
  state.live.upTo = null; // thinned for another span
}

function look(until) {
  const now = serverNow();
  const focused = document.activeElement;
  say($("remark"), "");
  byCounts.failure = null;
  state.until = until === null || until >= now - 500 || isCounted() ? null : Math.max(until, (state.begins ?? -Infinity) + state.span / 2);
  if (state.until !== null && state.until >= now) state.until = null;
  state.past = null;
  choose($("picture"), null);
  changed();
  if (state.until !== null) lookBack(changed);
  if (focused === $("forward") && state.until === null) $("now").focus();
}

// The stretch that the address names, if it names one.
function lookAtPlace() {
  const { minutes, at } = place;
  if (!(minutes || at) || location.hash === placeOf(seenPlace())) return;
  setSpan(document.querySelector(`[data-minutes="${CSS.escape(minutes)}"]`) ? minutes * 60000 : 300e3);
  look(at > 0 ? Number(at) : null);
}

function listenForRange() {
  for (const button of document.querySelectorAll("[data-minutes]")) {
    on(button, "click", () => {
      setSpan(Number(button.dataset.minutes) * 60000);
      look(state.until);
    });
  }
  on($("back"), "click", () => look(stretch().to - state.span / 2));
  on($("forward"), "click", () => look(stretch().to + state.span / 2));
  on($("now"), "click", () => look(null));
  on($("when"), "input", () => {
    const now = serverNow();
    const begins = Math.min(state.begins ?? now, now - state.span);
    const share = Number($("when").value) / 1000;
    look(share >= 1 ? null : begins + state.span + share * (now - begins - state.span));
  });
}

paintLegend($("legend"));
listen($("timeline"), $("picture"));
listenForRange();
listenForToken();
listenForFilters();
listenForJob();
listenForCounts();
readPlace();
addEventListener("hashchange", go);
on(document.querySelector(".skip-link"), "click", (event) => {
  event.preventDefault();
  $(place.job ? "job" : "jobs").focus();
});
let wide = 0; // the height changes with each row that comes into sight
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width !== wide) changed();
  wide = contentRect.width;
}).observe(document.querySelector("main"));
setInterval(() => {
  if (isPlaced) replacePlace({}); // browsers limit how often
  changed();
}, 1000);
poll(changed);
