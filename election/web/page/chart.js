// The history of one job: a bar for each run, as high as it took long, and one below for how late it began.

const CHART = { took: 92, late: 34, top: 20, gutter: 66, side: 8, foot: 18 };

const SIGNS_ABOVE = {
  failed: (x, y) => `M${x - 3.5} ${y - 3.5}l7 7m0-7l-7 7`,
  interrupted: (x, y) => `M${x - 3} ${y - 4.5}l7 4.5-7 4.5Z`,
};

// ``runs``: oldest first. Returns where each run is, to find the one that is pointed at.
function drawHistory(svg, runs, { width, chosen }) {
  const { took, late, top, gutter, side, foot } = CHART;
  const base = top + took;
  const height = base + 6 + late + foot;
  const step = Math.min((width - gutter - side) / Math.max(runs.length, 12), 26);
  const bar = Math.max(step * 0.66, 2);
  const longest = Math.max(...runs.map(tookOf), 1);
  const latest = Math.max(...runs.map(lateOf), 1);
  const made = [
    line("rule", `M${gutter} ${base}H${width - side}`),
    line("row", `M${gutter} ${top}H${width - side}`),
    label(gutter - 8, top + 4, duration(longest)), label(gutter - 8, base, "took"),
    label(gutter - 8, base + 18, "late"), label(gutter - 8, base + 6 + late, duration(latest)),
  ];
  const places = runs.map((run, at) => {
    const x = gutter + 4 + at * step + bar / 2;
    const high = Math.max((tookOf(run) / longest) * took, 1.5);
    const kind = outcome(run);
    const shapes = [drawn("path", { class: `bar ${kind}`, d: box(x, base - high, bar, high) })];
    if (SIGNS_ABOVE[kind]) shapes.push(drawn("path", { class: `run ${kind}`, d: SIGNS_ABOVE[kind](x, Math.max(base - high - 8, 8)) }));
    shapes.push(drawn("path", { class: "lateness", d: box(x, base + 6, bar, Math.max((lateOf(run) / latest) * late, 1)) }));
    shapes.push(drawn("path", { class: "reach", d: box(x, 0, step, height - foot) }));
    made.push(drawn("g", { class: run.seq === chosen ? "chosen" : null, "data-run": run.seq }, drawn("title", {}, sayRun(run)), ...shapes));
    return { x, seq: run.seq };
  });
  if (runs.length) {
    made.push(label(gutter + 4, height - 2, clock(runs[0].at), "start"));
    if (runs.length * step > 240) made.push(label(places.at(-1).x + bar / 2, height - 2, clock(runs.at(-1).at), "end"));
  }
  mark(svg, "aria-label", historyWords(runs));
  setPicture(svg, width, height, made);
}

function tookOf(run) {
  return Math.max((run.end ?? serverNow()) - run.at, 0);
}

function box(x, y, wide, high) {
  return `M${(x - wide / 2).toFixed(1)} ${y.toFixed(1)}h${wide.toFixed(1)}v${high.toFixed(1)}h-${wide.toFixed(1)}Z`;
}

function label(x, y, words, anchor = "end") {
  return drawn("text", { class: "time", x, y, "text-anchor": anchor }, words);
}

function historyWords(runs) {
  if (!runs.length) return "No run is kept.";
  const counts = countsOf(runs, []);
  const kinds = Object.keys(SHAPES).filter((kind) => counts[kind]).map((kind) => `${counts[kind]} ${kind}`).join(", ");
  const took = runs.filter((run) => run.end !== null).map(tookOf).sort((one, other) => one - other);
  const long = took.length ? ` Half of them took up to ${duration(took[Math.floor((took.length - 1) / 2)])}, the longest ${duration(took.at(-1))}.` : "";
  return `The latest ${count(runs.length, "run")}: ${kinds}.${long} The latest to begin was ${duration(Math.max(...runs.map(lateOf)))} late.`;
}
