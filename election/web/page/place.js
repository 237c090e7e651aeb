// The place in the page is the fragment of its address: Back, a reload and a copied link keep it.

const place = { job: "", run: "", q: "", tag: "", outcome: "", sort: "" };

// The fragment of this place with some changes.
function placeOf(changes) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...place, ...changes })) if (value) words.set(key, value);
  return `#${words}`;
}

function readPlace() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(place)) place[key] = words.get(key) ?? "";
}

// A choice in the list of jobs makes no new step for the Back button.
function replacePlace(changes) {
  history.replaceState(null, "", placeOf(changes));
  readPlace();
}

function jobLink(id, words = jobName(id), changes = {}) {
  return node("a", { href: placeOf({ job: id, run: "", ...changes }), class: "to" }, words);
}
