// Parts that several views have.

import {h, patch} from "./dom.js";
import {post} from "./api.js";

export const state = {writable: false, limits: {}};

// note is a message with a word for its severity, in addition to its colour.
export const note = (kind, ...children) =>
  h("p", {class: "note " + kind, role: kind === "bad" ? "alert" : null}, h("strong", {}, {bad: "Error. ", warn: "Note. ", good: "Done. "}[kind]), children);

// loading is what is shown before the first answer.
export const loading = h("p", {class: "quiet"}, "Loading …");

export const card = (title, value, detail) =>
  h("div", {class: "card"}, h("dt", {}, title), h("dd", {}, value, detail != null && h("small", {}, detail)));

export const cards = (...list) => h("dl", {class: "cards"}, list);

export const badge = (kind, text) => h("span", {class: "badge " + kind}, text);

// table has a caption for screen readers, and scrolls by itself on a phone.
export const table = (caption, heads, rows, empty = "Nothing here.") =>
  h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": caption},
    h("table", {}, h("caption", {class: "unseen"}, caption),
      h("thead", {}, h("tr", {}, heads.map((t) => h("th", {scope: "col", class: t.startsWith(">") ? "num" : null}, t.replace(">", ""))))),
      h("tbody", {}, rows.length ? rows : h("tr", {key: "empty"}, h("td", {colspan: heads.length, class: "quiet"}, empty)))));

export const crumbs = (...parts) =>
  h("nav", {class: "crumbs", "aria-label": "Where you are"}, h("ol", {}, parts.map((p) => h("li", {}, p))));

// actionButton opens a confirmation. There is no button if changes are not allowed.
export const actionButton = (label, action, props = {}) =>
  state.writable && h("button", {type: "button", class: props.class, disabled: props.disabled, title: props.title, onclick: () => confirm(action)}, label);

// confirm asks before something is changed. An action has a title, a text that explains the
// effect (or a function of the fields' values), a verb for the button, fields
// ({name, label, value, hint, type, options, and when to show it}), danger, and run(values),
// which returns the message to show when it is done.
export function confirm(action) {
  const dialog = document.createElement("dialog");
  document.body.append(dialog);
  const opener = document.activeElement;
  const values = Object.fromEntries((action.fields || []).map((f) => [f.name, f.value ?? ""]));
  let busy = false;
  let result = null;
  const close = () => dialog.close();
  const draw = () =>
    patch(dialog, h("form", {method: "dialog", "aria-labelledby": "dialog-title", onsubmit: submit},
      h("h2", {id: "dialog-title"}, action.title),
      result?.done
        ? [note("good", result.done), h("div", {class: "buttons"}, h("button", {key: "close", type: "button", class: "main", onclick: close}, "Close"))]
        : [
          (action.fields || []).filter((f) => !f.when || f.when(values)).map((f) => h("label", {key: f.name, class: "field"}, h("span", {}, f.label),
            f.options
              ? h("select", {value: values[f.name], onchange: (e) => set(f.name, e.target.value)},
                f.options.map(([v, t]) => h("option", {value: v, selected: v === values[f.name]}, t)))
              : h("input", {type: f.type || "text", min: f.min, step: f.step, value: values[f.name], oninput: (e) => set(f.name, e.target.value)}),
            f.hint && h("small", {}, f.hint))),
          h("p", {class: "consequence"}, typeof action.text === "function" ? action.text(values) : action.text),
          result?.error && note("bad", result.error),
          h("div", {class: "buttons"},
            h("button", {key: "cancel", type: "button", onclick: close}, "Cancel"),
            h("button", {key: "run", type: "submit", class: action.danger ? "danger" : "main", disabled: busy}, busy ? "Working …" : action.verb)),
        ]));
  const set = (name, value) => {
    values[name] = value;
    draw();
  };
  async function submit(event) {
    event.preventDefault();
    if (busy) return;
    busy = true;
    result = null;
    draw();
    try {
      result = {done: (await action.run(values)) || "Done."};
      action.after?.();
    } catch (err) {
      result = {error: err.message};
    }
    busy = false;
    draw();
    dialog.querySelector("button.main")?.focus();
  }
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  draw();
  dialog.showModal();
}

export const change = post;
