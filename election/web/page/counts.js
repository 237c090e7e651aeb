// A day or a week by counts: a bar for each period; and the way to a failure, or to a moment.

const DAY_MS = 86400e3;
const KINDS = ["succeeded", "running", "skipped", "interrupted", "failed"]; // from the bottom of a bar to its top
const BARS = 150; // px, the height of the bars

// ``failure``: the one that was gone to last; ``wanted``: how often one was asked for.
const byCounts = { days: 0, told: null, readAt: -Infinity, failure: null, wanted: 0 };

// Whether the stretch is so long that counts are drawn in place of runs.
function isCounted() {
  return state.span >= DAY_MS;
}

async function askForCounts() {
  const days = state.span / DAY_MS;
  if (byCounts.days !== days) Object.assign(byCounts, { days, told: null, readAt: -Infinity });
  const age = byCounts.told?.complete ? 10000 : 1000;
  if (elapsed() - byCounts.readAt < age || isStale()) return;
  byCounts.readAt = elapsed();
  try {
    const told = await read("live/counts", { days });
    if (byCounts.days === days) byCounts.told = told;
    changed();
  } catch {
    // Asked again soon.
  }
}

function totalOf(counts) {
  return KINDS.reduce((sum, kind) => sum + (counts?.[kind] ?? 0), 0);
}

// Draws the counts into ``svg``; returns what can be pointed at.
function paintCounts(svg, width) {
  askForCounts();
  const { from, step, periods } = byCounts.told ?? { periods: [] };
  const most = Math.max(1, ...periods.map(totalOf));
  const wide = (width - 2 * SIDE) / Math.max(periods.length, 1);
  const [made, marks, bottom] = [[], [], TOP + BARS];
  periods.forEach((counts, at) => {
    const begin = from + at * step;
    const x = SIDE + at * wide;
    let y = bottom;
    for (const kind of KINDS) {
      const number = counts?.[kind] ?? 0;
      if (!number) continue;
      const high = Math.max((number / most) * BARS, kind === "succeeded" ? 1 : 3); // a single failure is seen, too
      y -= high;
      made.push(drawn("rect", { class: `bar ${kind}`, x: x + 1, y, width: Math.max(wide - 2, 1), height: high, "data-count": number }));
    }
    if (at % Math.ceil(74 / wide) === 0) made.push(drawn("text", { class: "time", x, y: bottom + 16 }, byCounts.days > 1 ? `${DAY.format(begin)}, ${MINUTE.format(begin)}` : MINUTE.format(begin)));
    marks.push({ key: `from ${begin}`, time: begin, x: x + wide / 2, y: Math.min(y, bottom - 8), plain: totalOf(counts) === (counts?.succeeded ?? 0), say: () => sayCounts(counts, begin, begin + step), go: () => goTo(begin, step) });
  });
  made.push(line("rule", `M0 ${bottom}H${width}`));
  setPicture(svg, width, bottom + 24, made);
  const counts = !byCounts.told?.complete || periods.some((each) => each.many) ? null : Object.fromEntries(KINDS.map((kind) => [kind, periods.reduce((sum, each) => sum + (each[kind] ?? 0), 0)]));
  return { marks, terms: [], runs: [], skips: [], counts };
}

function sayCounts(counts, from, to) {
  return `${clock(from)} – ${clock(to)}: ${countWords(counts)}. Press Enter or click to see it.`;
}

function countWords(counts) {
  if (counts === null) return "not counted yet";
  return counts.many ? "more than can be counted" : KINDS.filter((kind) => counts[kind]).map((kind) => `${NUMBER.format(counts[kind])} ${kind}`).join(", ") || "nothing";
}

// The bars as rows of a table, the latest first.
function countRows() {
  const { from, step, periods } = byCounts.told ?? { periods: [] };
  return periods.map((counts, at) => [`${clock(from + at * step)} – ${clock(from + (at + 1) * step)}`, "all", countWords(counts), ..."––––"]).reverse();
}

// The stretch of this length that begins at a moment.
function goTo(from, span) {
  setSpan(span);
  look(from + span);
}

// The failure before or after the mark that is chosen, or the stretch that is seen.
async function goToFailure(step) {
  const mine = ++byCounts.wanted;
  const { from, to } = stretch();
  const chosen = pointer.marks.find((each) => each.key === pointer.chosen);
  const { failure } = byCounts; // while its stretch is read, it has no mark
  const edge = failure && pointer.chosen === `run ${failure.seq}` ? failure : { at: chosen?.time ?? (step < 0 ? to : from), seq: chosen?.run };
  let found;
  try {
    const kinds = await Promise.all([...FAILURES].map((kind) => nearestFailure(kind, step, edge)));
    found = kinds.filter(Boolean).sort((one, other) => step * inOrder(one, other))[0];
  } catch (error) {
    found = error;
  }
  if (mine !== byCounts.wanted) return; // another one is wanted by now
  if (!found?.seq) {
    say($("remark"), found ? `No answer: ${found.message}.` : `No ${step < 0 ? "earlier" : "later"} failure is kept.`);
    return;
  }
  if (isCounted()) setSpan(300e3);
  look(found.at + state.span / 2);
  byCounts.failure = found;
  choose($("picture"), `run ${found.seq}`);
}

function inOrder(one, other) {
  return Math.floor(one.at) - Math.floor(other.at) || one.seq - (other.seq ?? one.seq);
}

async function nearestFailure(outcome, step, edge) {
  let [best, before] = [null, null];
  do {
    const told = await read("runs", { outcome, limit: 100, ...(before && { before }) });
    for (const run of told.runs.map(fromEntry)) {
      const order = inOrder(run, edge);
      if (step < 0 && order < 0) return run;
      if (step > 0 && order <= 0) return best;
      best = step < 0 ? null : run;
    }
    before = told.next;
  } while (before !== null);
  return best;
}

const COMING_AGE = 15000; // ms

let comingAt = -Infinity;

async function tellComing() {
  if (!$("coming").open || isStale() || elapsed() - comingAt < COMING_AGE) return;
  comingAt = elapsed();
  try {
    const until = new Date(serverNow() + DAY_MS).toISOString();
    const told = await read("next", { until, each: 3, limit: 200 });
    fill($("coming-table"), told.ticks.map((tick) => [tickWords(tick), { job: tick.job_id }]));
    say($("coming-table").caption, `The next ${told.ticks.length} runs, three of each job at most`);
  } catch (error) {
    say($("coming-table").caption, `No answer: ${error.message}`);
  }
}

function listenForCounts() {
  on($("failure-before"), "click", () => goToFailure(-1));
  on($("failure-after"), "click", () => goToFailure(1));
  on($("date"), "change", () => $("date").value && goTo(Date.parse($("date").value) - (isCounted() ? 1800e3 : state.span / 2), isCounted() ? 3600e3 : state.span));
  on($("coming"), "toggle", () => ((comingAt = -Infinity), tellComing()));
}
