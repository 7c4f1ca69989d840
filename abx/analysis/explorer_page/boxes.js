// Boxes [y0, x0, y1, x1] in parts of the picture, and the two that are moved about and snap to a grid of them.

function put(element, box) {
  const [y0, x0, y1, x1] = box.map((part) => 100 * part);
  Object.assign(element.style, { top: `${y0}%`, left: `${x0}%`, height: `${y1 - y0}%`, width: `${x1 - x0}%` });
}

// Numbered by size, then from the top, then from the left.
class Grid {
  constructor({ areas, places, boxes }) {
    Object.assign(this, { areas, places, boxes });
  }

  index(size, row, column) {
    const within = (k) => Math.min(Math.max(k, 0), this.places - 1);
    return (size * this.places + within(row)) * this.places + within(column);
  }

  at(index) {
    const places = this.places;
    return [Math.floor(index / places ** 2), Math.floor(index / places) % places, index % places];
  }

  // The box of this size whose corner is nearest.
  nearest(size, top, left) {
    const first = size * this.places ** 2;
    const away = (index) => (this.boxes[index][0] - top) ** 2 + (this.boxes[index][1] - left) ** 2;
    let found = first;
    for (let index = first; index < first + this.places ** 2; index++) if (away(index) < away(found)) found = index;
    return found;
  }

  // The size whose area is nearest, as a ratio.
  sizeOf(height, width) {
    const wanted = Math.log(Math.max(height, 1e-3) * Math.max(width, 1e-3));
    const away = (area) => Math.abs(Math.log(area) - wanted);
    return this.areas.reduce((found, area, size) => (away(area) < away(this.areas[found]) ? size : found), 0);
  }

  // Of another size, its middle where it was as nearly as may be.
  resized(index, size) {
    const [y0, x0, y1, x1] = this.boxes[index];
    const [top, left, bottom, right] = this.boxes[size * this.places ** 2];
    return this.nearest(size, (y0 + y1 - bottom + top) / 2, (x0 + x1 - right + left) / 2);
  }

  describe(index) {
    const [y0, x0, y1, x1] = this.boxes[index];
    const size = `${percent(y1 - y0)} high, ${percent(x1 - x0)} wide`;
    return `${size}, its middle ${percent((y0 + y1) / 2)} down and ${percent((x0 + x1) / 2)} across`;
  }
}

// `moved` is told the number of the grid's box that it has snapped to, `settled` when it has come to rest.
class Movable {
  constructor(element, ghost, grid, index, { moved, settled, best }) {
    Object.assign(this, { element, ghost, grid, index, moved, settled, best });
    element.addEventListener("pointerdown", (event) => this.grab(event));
    element.addEventListener("keydown", (event) => this.key(event));
  }

  show(words) {
    const box = this.grid.boxes[this.index];
    put(this.element, box);
    // The smaller box on top, so that each can be grabbed.
    this.element.style.zIndex = String(5 - Math.round(4 * (box[2] - box[0]) * (box[3] - box[1])));
    this.element.dataset.index = String(this.index);
    this.element.setAttribute("aria-label", `${words}: ${this.grid.describe(this.index)}`);
  }

  go(index) {
    if (index === this.index) return;
    this.index = index;
    this.moved(index);
  }

  grab(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.element.focus({ focusVisible: false });
    this.element.setPointerCapture(event.pointerId);
    const stage = this.element.parentElement.getBoundingClientRect();
    const at = ({ clientX, clientY }) => [(clientY - stage.top) / stage.height, (clientX - stage.left) / stage.width];
    const [y, x] = at(event);
    const [y0, x0, y1, x1] = this.grid.boxes[this.index];
    const size = this.grid.at(this.index)[0];
    const resizing = event.target.classList.contains("handle");
    const drag = (next) => {
      const [down, across] = at(next);
      const [dy, dx] = [down - y, across - x];
      this.ghost.hidden = false;
      if (resizing) {
        const free = [y0, x0, Math.max(y1 + dy, y0 + 0.02), Math.max(x1 + dx, x0 + 0.02)];
        put(this.ghost, free);
        this.go(this.grid.nearest(this.grid.sizeOf(free[2] - y0, free[3] - x0), y0, x0));
      } else {
        put(this.ghost, [y0 + dy, x0 + dx, y1 + dy, x1 + dx]);
        this.go(this.grid.nearest(size, y0 + dy, x0 + dx));
      }
    };
    const drop = () => {
      this.ghost.hidden = true;
      window.removeEventListener("pointermove", drag);
      window.removeEventListener("pointerup", drop);
      window.removeEventListener("pointercancel", drop);
      this.settled();
    };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", drop);
    window.addEventListener("pointercancel", drop);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [size, row, column] = this.grid.at(this.index);
    const resized = (by) => {
      const next = Math.min(Math.max(size + by, 0), this.grid.areas.length - 1);
      return next === size ? this.index : this.grid.resized(this.index, next);
    };
    const steps = {
      ArrowUp: () => this.grid.index(size, row - 1, column),
      ArrowDown: () => this.grid.index(size, row + 1, column),
      ArrowLeft: () => this.grid.index(size, row, column - 1),
      ArrowRight: () => this.grid.index(size, row, column + 1),
      "+": () => resized(1),
      "=": () => resized(1),
      "-": () => resized(-1),
      b: this.best,
      B: this.best,
    };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    this.go(step());
    this.settled();
  }
}
