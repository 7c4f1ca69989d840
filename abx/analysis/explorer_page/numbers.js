"use strict";
// What was computed: values and rewards by checkpoint c, source box s, target box g and annotation l.

function bytes(coded) {
  const text = atob(coded);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found.buffer;
}

class Numbers {
  constructor(data) {
    this.targets = data.targets.boxes.length;
    this.annotations = data.annotations.length;
    this.checkpoints = data.checkpoints.map((each) => ({
      step: each.step,
      low: each.low,
      unit: each.unit,
      logits: new Uint16Array(bytes(each.logits)),
      here: new Float32Array(bytes(each.here)),
      there: new Float32Array(bytes(each.there)),
    }));
  }

  // Q(x, a, l) = sigmoid(logit).
  value(c, s, g, l) {
    const at = this.checkpoints[c];
    const number = at.logits[(s * this.targets + g) * this.annotations + l];
    return 1 / (1 + Math.exp(-(at.low + at.unit * number)));
  }

  here(c, s, l) {
    return this.checkpoints[c].here[s * this.annotations + l];
  }

  there(c, g, l) {
    return this.checkpoints[c].there[g * this.annotations + l];
  }

  // Of moving from s to every target box.
  map(c, s, l) {
    return Array.from({ length: this.targets }, (_, g) => this.value(c, s, g, l));
  }
}

// Three digits that count.
function said(number) {
  return number >= 0.001 || number === 0 ? number.toPrecision(3) : number.toExponential(1);
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}
