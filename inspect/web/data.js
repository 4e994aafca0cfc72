// The data of a record, decoded as text, JSON or hex.

import {h} from "./dom.js";
import {anyText, bytes, fromBase64, hexOf, jsonOf, preview, textOf} from "./format.js";

// Opened remembers which records are expanded, and in which form.
export class Opened {
  constructor(redraw) {
    this.redraw = redraw;
    this.open = new Set();
    this.forms = new Map();
    this.whole = new Map(); // records loaded on demand
    this.errors = new Map(); // of such loads
  }

  toggle(id) {
    if (!this.open.delete(id)) this.open.add(id);
    this.redraw();
  }

  // body shows a record's data. more loads all of it, or what is encrypted.
  body(id, rec, more) {
    const shown = this.whole.get(id) || rec;
    if (shown.Withheld) {
      return h("div", {class: "data"}, h("p", {class: "quiet"}, "Key and data are encrypted."),
        more && h("button", {type: "button", onclick: () => this.demand(id, more)}, "Show them"), this.problem(id));
    }
    const data = fromBase64(shown.Data);
    const cut = data.length < shown.DataBytes;
    const json = cut ? null : jsonOf(data);
    const text = textOf(data, cut);
    const form = this.forms.get(id) || (json ? "JSON" : text != null ? "Text" : "Hex");
    const choose = (name) => () => {
      this.forms.set(id, name);
      this.redraw();
    };
    return h("div", {class: "data"},
      h("div", {class: "choice", role: "group", "aria-label": "How the data is shown"}, ["JSON", "Text", "Hex"].map((name) =>
        h("button", {type: "button", "aria-pressed": String(name === form), disabled: name === "JSON" && !json, onclick: choose(name)}, name))),
      h("pre", {tabindex: 0}, form === "JSON" && json ? json : form === "Hex" ? hexOf(data) : text ?? anyText(data)),
      cut && h("p", {class: "quiet"}, `The first ${bytes(data.length)} of ${bytes(shown.DataBytes)}. `,
        more && h("button", {type: "button", onclick: () => this.demand(id, more)}, "Show all")), this.problem(id));
  }

  problem(id) {
    return this.errors.has(id) && h("p", {class: "note bad"}, this.errors.get(id));
  }

  async demand(id, more) {
    try {
      this.whole.set(id, await more());
      this.errors.delete(id);
    } catch (err) {
      this.errors.set(id, err.message);
    }
    this.redraw();
  }

  // shown returns the record with everything that was loaded.
  shown(id, rec) {
    return this.whole.get(id) || rec;
  }
}

export function line(rec) {
  if (rec.Withheld) return h("i", {class: "quiet"}, "encrypted");
  const data = fromBase64(rec.Data);
  return data.length ? preview(data, data.length < rec.DataBytes) : h("i", {class: "quiet"}, "empty");
}
