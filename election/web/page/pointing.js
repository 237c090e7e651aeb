// Pointing at a mark, by mouse, finger or keys; what it says stands below the picture.

const REACH = 14; // px

const pointer = { marks: [], chosen: null, hovered: null, ring: null };

function pointAt(svg, marks) {
  pointer.marks = marks;
  const found = marks.find((mark) => mark.key === (pointer.hovered ?? pointer.chosen));
  if (!pointer.ring) pointer.ring = drawn("circle", { class: "ring", r: 9 });
  if (found) {
    pointer.ring.setAttribute("cx", found.x.toFixed(1));
    pointer.ring.setAttribute("cy", found.y.toFixed(1));
    svg.append(pointer.ring);
  } else {
    pointer.ring.remove();
  }
  return found;
}

function choose(svg, key, hovering = false) {
  if (hovering) pointer.hovered = key;
  else [pointer.chosen, pointer.hovered] = [key, null];
  tellDetails(pointAt(svg, pointer.marks));
}

// What the mark says, and a link to its run or job.
function tellDetails(found) {
  const area = $("details");
  const key = found ? placeOf({ key: found.key }) : "";
  if (area.dataset.key === key) return;
  area.dataset.key = key;
  const link = found?.job ? [" ", jobLink(found.job, found.run ? "Open this run" : "Open the job", { run: found.run })] : [];
  area.replaceChildren(...(found ? [node("span", {}, found.say()), ...link] : []));
}

function nearest(svg, event) {
  const box = svg.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [best, least] = [null, isCounted() ? Infinity : REACH * REACH];
  for (const mark of pointer.marks) {
    const distance = (mark.x - x) ** 2 + (isCounted() ? 0 : (mark.y - y) ** 2);
    if (distance < least) [best, least] = [mark, distance];
  }
  return best && best.key;
}

function listen(area, svg) {
  on(area, "pointermove", (event) => {
    const key = nearest(svg, event);
    if (event.pointerType === "mouse" && key !== pointer.hovered) choose(svg, key, true);
  });
  on(area, "pointerleave", () => pointer.hovered !== null && choose(svg, null, true));
  on(area, "click", (event) => {
    // The picture has been drawn anew since the button went down, so the event's own target says little.
    const name = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]");
    if (name) location.hash = placeOf({ job: name.dataset.row, run: "" });
    else enter(svg, nearest(svg, event));
  });
  on(area, "keydown", (event) => {
    const { marks } = pointer;
    const at = marks.findIndex((mark) => mark.key === pointer.chosen);
    const goal = {
      ArrowRight: at < 0 ? marks.length - 1 : Math.min(at + 1, marks.length - 1),
      ArrowLeft: at < 0 ? marks.length - 1 : Math.max(at - 1, 0),
      Home: 0,
      End: marks.length - 1,
    }[event.key];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") choose(svg, null);
    else if (event.key === "Enter") enter(svg, pointer.chosen);
    else if (step) choose(svg, elsewhere(marks, at, step) ?? pointer.chosen);
    else if (goal !== undefined && marks.length) choose(svg, marks[goal].key);
    else return;
    event.preventDefault();
  });
}

// A mark that stands for a period leads there.
function enter(svg, key) {
  choose(svg, key);
  pointer.marks.find((mark) => mark.key === key)?.go?.();
}

// Up and down go to the next mark that tells of more than a run that went well.
function elsewhere(marks, at, step) {
  for (let other = at < 0 ? (step > 0 ? 0 : marks.length - 1) : at + step; other >= 0 && other < marks.length; other += step) {
    if (!marks[other].plain) return marks[other].key;
  }
  return null;
}
