// Maps of values over positions, one for each size of target box; their colours; and a value's course over checkpoints.

function drawn(name, attributes, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (parent) parent.append(element);
  return element;
}

// Between the colours given, of even steps in brightness.
function colour(colours, share) {
  const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const k = Math.min(Math.floor(at), colours.length - 2);
  const part = (hex, from) => parseInt(hex.slice(from, from + 2), 16);
  const mixed = [1, 3, 5].map((from) => {
    const [a, b] = [part(colours[k], from), part(colours[k + 1], from)];
    return Math.round(a + (b - a) * (at - k));
  });
  return `rgb(${mixed.join(",")})`;
}

class Maps {
  constructor(parent, grid, picture, [height, width], colours, move) {
    Object.assign(this, { grid, colours, tiles: [], titles: [] });
    const scale = 200 / Math.max(height, width);
    this.size = [scale * height, scale * width];
    this.plates = grid.areas.map((area, k) => {
      const figure = document.createElement("figure");
      const svg = drawn("svg", { viewBox: `0 0 ${this.size[1]} ${this.size[0]}`, role: "img" }, figure);
      drawn("image", { href: picture, width: this.size[1], height: this.size[0], preserveAspectRatio: "none" }, svg);
      for (let i = 0; i < grid.places ** 2; i++) this.tile(svg, k * grid.places ** 2 + i, move);
      const marks = {
        svg,
        from: drawn("rect", { class: "from", "stroke-width": 2 }, svg),
        halo: drawn("rect", { class: "at", "stroke-width": 4 }, svg),
        at: drawn("rect", { class: "at inner", "stroke-width": 2 }, svg),
        star: drawn("text", { "font-size": 15, "stroke-width": 2.5 }, svg),
      };
      marks.star.textContent = "★";
      const caption = document.createElement("figcaption");
      caption.textContent = `to boxes of ${percent(area)} of the picture`;
      figure.append(caption);
      parent.append(figure);
      return marks;
    });
  }

  middle(index) {
    const [y0, x0, y1, x1] = this.grid.boxes[index];
    return [((y0 + y1) / 2) * this.size[0], ((x0 + x1) / 2) * this.size[1]];
  }

  tile(svg, index, move) {
    const first = index - (index % this.grid.places ** 2);
    const last = first + this.grid.places ** 2 - 1;
    const gaps = [0, 1].map((axis) => (this.middle(last)[axis] - this.middle(first)[axis]) / (this.grid.places - 1 || 1));
    const [high, wide] = gaps.map((gap) => Math.max(0.9 * gap, 3));
    const [y, x] = this.middle(index);
    const place = { x: x - wide / 2, y: y - high / 2, width: wide, height: high };
    const rect = drawn("rect", { class: "tile", ...place }, svg);
    this.titles[index] = drawn("title", {}, rect);
    this.tiles[index] = rect;
    rect.addEventListener("click", () => move(index));
  }

  outline(mark, { x, y, width, height }) {
    for (const [key, value] of Object.entries({ x, y, width, height })) mark.setAttribute(key, value);
  }

  // values: of every target box; [low, high]: what the ends of the colours stand for.
  show(values, [low, high], source, target, best, words) {
    values.forEach((value, index) => {
      this.tiles[index].setAttribute("fill", colour(this.colours, (value - low) / (high - low || 1)));
      this.titles[index].textContent = said(value);
    });
    const [h, w] = this.size;
    const [size, top] = [this.grid.at(target)[0], this.grid.at(best)[0]];
    this.plates.forEach((marks, k) => {
      const [y0, x0, y1, x1] = source;
      this.outline(marks.from, { x: x0 * w, y: y0 * h, width: (x1 - x0) * w, height: (y1 - y0) * h });
      for (const mark of [marks.halo, marks.at]) {
        const tile = this.tiles[target];
        const place = Object.fromEntries(["x", "y", "width", "height"].map((key) => [key, Number(tile.getAttribute(key))]));
        mark.style.display = k === size ? "" : "none";
        this.outline(mark, place);
      }
      marks.star.style.display = k === top ? "" : "none";
      const [y, x] = this.middle(best);
      marks.star.setAttribute("x", x);
      marks.star.setAttribute("y", y);
      const here = values.slice(k * this.grid.places ** 2, (k + 1) * this.grid.places ** 2);
      const range = `from ${said(Math.min(...here))} to ${said(Math.max(...here))}`;
      marks.svg.setAttribute("aria-label", `${words}, to boxes of ${percent(this.grid.areas[k])} of the picture: ${range}`);
    });
  }
}

// The value of one move at every checkpoint, beside the reward of the box that it leads to.
function course(svg, numbers, c, s, g, l) {
  svg.replaceChildren();
  const count = numbers.checkpoints.length;
  svg.style.display = count > 1 ? "" : "none";
  if (count < 2) return;
  const lines = [
    ["#0072b2", numbers.checkpoints.map((_, k) => numbers.value(k, s, g, l))],
    ["#56b4e9", numbers.checkpoints.map((_, k) => numbers.there(k, g, l))],
  ];
  const most = Math.max(...lines.flatMap(([, line]) => line), 1e-9);
  const place = (k, value) => [4 + (212 * k) / (count - 1), 60 - (48 * value) / most];
  for (const [stroke, line] of [...lines].reverse()) {
    const points = line.map((value, k) => place(k, value).join(",")).join(" ");
    drawn("polyline", { points, fill: "none", stroke, "stroke-width": 2 }, svg);
  }
  const [x, y] = place(c, lines[0][1][c]);
  drawn("circle", { cx: x, cy: y, r: 4, fill: "#0072b2" }, svg);
  drawn("text", { x: 0, y: 8 }, svg).textContent = `value and, paler, reward there; top: ${said(most)}`;
  svg.setAttribute("aria-label", `value there by checkpoint: ${lines[0][1].map(said).join(", ")}`);
}
