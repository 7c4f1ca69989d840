// What is chosen, and everything on the page that follows from it.

const data = JSON.parse(document.getElementById("data").textContent);
const numbers = new Numbers(data);
const element = (id) => document.getElementById(id);
const sources = new Grid(data.sources);
const targets = new Grid(data.targets);
const chosen = { c: numbers.checkpoints.length - 1, l: 0, scale: "one" };
const rows = [];

const argmax = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

function made(name, words, parent, className) {
  const found = document.createElement(name);
  found.textContent = words;
  if (className) found.className = className;
  parent.append(found);
  return found;
}

// The middle box of a size: of the sources the middle one, of the targets one that is somewhere else.
const middle = (grid, size, row, column) => grid.index(size, Math.floor(row * grid.places), Math.floor(column * grid.places));
const handlers = { settled: announce, best: () => source.index };
const source = new Movable(element("source"), element("ghost"), sources,
  middle(sources, Math.floor(sources.areas.length / 2), 0.5, 0.5), { ...handlers, moved: render });
const target = new Movable(element("target"), element("ghost"), targets,
  middle(targets, Math.floor(targets.areas.length / 2) - 1, 0.2, 0.75),
  { ...handlers, moved: render, best: () => bestOf(chosen.l) });

function bestOf(l) {
  return argmax(numbers.map(chosen.c, source.index, l));
}

function moveTo(index) {
  target.go(index);
  announce();
}

function annotationRow({ label, look }, l) {
  const row = document.createElement("tr");
  const name = made("label", "", made("td", "", row));
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "annotation", value: String(l), checked: l === chosen.l });
  radio.addEventListener("change", () => {
    chosen.l = l;
    render();
    announce();
  });
  name.append(radio);
  if (look) name.append(Object.assign(new Image(), { src: look, alt: "" }));
  made("span", label, name);
  const cell = (kind) => {
    const found = made("td", "", row, "number");
    return { said: made("span", "", found, kind), size: made("span", "", found, `size ${kind}`) };
  };
  const value = cell("value");
  const lift = made("td", "", row, "number lift");
  const [here, there] = [cell("here"), cell("there")];
  const best = made("button", "", made("td", "", row, "number"));
  best.type = "button";
  best.addEventListener("click", () => {
    chosen.l = l;
    radio.checked = true;
    moveTo(bestOf(l));
    render();
  });
  element("annotations").tBodies[0].append(row);
  return { row, label, value, lift, here, there, best };
}

function render() {
  const [c, s, g] = [chosen.c, source.index, target.index];
  const maps = data.annotations.map((_, l) => numbers.map(c, s, l));
  const found = data.annotations.map((_, l) => ({
    value: maps[l][g],
    here: numbers.here(c, s, l),
    there: numbers.there(c, g, l),
    best: argmax(maps[l]),
    mean: maps[l].reduce((sum, value) => sum + value) / maps[l].length,
  }));
  for (const part of ["value", "here", "there"]) {
    const most = Math.max(...found.map((each) => each[part]), 1e-12);
    rows.forEach((row, l) => {
      row[part].said.textContent = said(found[l][part]);
      row[part].size.style.width = `${(100 * found[l][part]) / most}%`;
    });
  }
  rows.forEach((row, l) => {
    row.row.classList.toggle("chosen", l === chosen.l);
    row.lift.textContent = `× ${(found[l].value / found[l].mean).toFixed(2)}`;
    row.best.textContent = `★ ${said(maps[l][found[l].best])}`;
    row.best.setAttribute("aria-label",
      `best move for ${row.label}: value ${said(maps[l][found[l].best])}, ${targets.describe(found[l].best)}`);
  });
  const best = found[chosen.l].best;
  const shown = chosen.scale === "one" ? maps[chosen.l] : maps.flat();
  const range = [Math.min(...shown), Math.max(...shown)];
  const words = `value of ${rows[chosen.l].label}`;
  plates.show(maps[chosen.l], range, sources.boxes[s], g, best, words);
  source.show("You are here, source box");
  target.show("Move to, target box");
  element("best").hidden = best === g;
  put(element("best"), targets.boxes[best]);
  element("mapped").textContent = rows[chosen.l].label;
  element("low").textContent = said(range[0]);
  element("high").textContent = said(range[1]);
  const step = numbers.checkpoints[c].step.toLocaleString("en");
  element("step-said").textContent = `step ${step}`;
  element("step").setAttribute("aria-valuetext", `step ${step}`);
  course(element("course"), numbers, c, s, g, chosen.l);
  view(element("seen"), sources.boxes[s]);
  view(element("unseen"), targets.boxes[g]);
}

function announce() {
  const { label, value, here } = rows[chosen.l];
  element("said").textContent =
    `Value of ${label}: ${value.said.textContent} there; reward here: ${here.said.textContent}. ` +
    `Target box ${targets.describe(target.index)}.`;
}

// As small as the network gets it.
function view(canvas, [y0, x0, y1, x1]) {
  const picture = element("picture");
  if (!picture.naturalWidth) return;
  canvas.width = canvas.height = data.view;
  const [h, w] = [picture.naturalHeight, picture.naturalWidth];
  const brush = canvas.getContext("2d");
  brush.imageSmoothingQuality = "high";
  brush.drawImage(picture, x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h, 0, 0, data.view, data.view);
}

const [height, width] = data.size;
element("stage").style.aspectRatio = `${width} / ${height}`;
element("picture").style.imageRendering = Math.max(height, width) < 200 ? "pixelated" : "";
element("picture").addEventListener("load", render);
element("picture").src = data.picture;
element("note").textContent = data.note;
element("bar").append(...["low", "colours", "high"].map((id) => Object.assign(document.createElement("span"), { id })));
element("colours").style.background = `linear-gradient(to right, ${data.colours.join(", ")})`;
const plates = new Maps(element("maps"), targets, data.picture, data.size, data.colours, moveTo);
data.annotations.forEach((each, l) => rows.push(annotationRow(each, l)));
element("step").max = String(numbers.checkpoints.length - 1);
element("step").value = String(chosen.c);
element("step").hidden = numbers.checkpoints.length < 2;
element("step").addEventListener("input", (event) => {
  chosen.c = Number(event.target.value);
  render();
  announce();
});
for (const radio of document.getElementsByName("scale")) {
  radio.addEventListener("change", () => {
    chosen.scale = radio.value;
    render();
  });
}
const unit = Math.max(...numbers.checkpoints.map((each) => each.unit));
element("exact").textContent =
  `The page holds no network: values were computed beforehand from ${sources.boxes.length} source boxes ` +
  `(${sources.areas.length} sizes, ${sources.places} × ${sources.places} places) to ${targets.boxes.length} target boxes ` +
  `(${targets.areas.length} sizes, ${targets.places} × ${targets.places} places). Boxes snap to these; the dashed outline ` +
  `is where you hold one. At these boxes values are the network's own, rounded to ${(50 * unit).toPrecision(1)} % of themselves.`;
render();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
