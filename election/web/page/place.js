// The place in the page is the fragment of its address: Back, a reload and a copied link keep it.

// minutes, at: the stretch of the timeline, if it is not the latest five minutes, and its end in ms.
const place = { job: "", run: "", q: "", tag: "", outcome: "", sort: "", minutes: "", at: "" };

// The fragment of this place with some changes, for a link, which leaves the timeline as it is.
function placeOf(changes) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...place, minutes: "", at: "", ...changes })) if (value) words.set(key, value);
  return `#${words}`;
}

let readHash = "";

function readPlace() {
  readHash = location.hash;
  const words = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(place)) place[key] = words.get(key) ?? "";
  place.run = place.run.replace(/\D.*/, ""); // such as a bracket after a link
}

// The stretch that is seen.
function seenPlace() {
  return { minutes: state.span === 300e3 ? "" : state.span / 60000, at: Math.round(state.until) || "" };
}

// A choice in the list of jobs, or of a stretch, makes no new step for the Back button.
function replacePlace(changes) {
  const hash = placeOf({ ...seenPlace(), ...changes });
  if (hash === (location.hash || "#") || location.hash !== readHash) return; // another place is about to be read
  history.replaceState(null, "", hash);
  readPlace();
}

function jobLink(id, words = jobName(id), changes = {}) {
  return node("a", { href: placeOf({ job: id, run: "", ...changes }), class: "to" }, words);
}
