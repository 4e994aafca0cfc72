// Small charts.

import {h} from "./dom.js";
import {count, clock, rate} from "./format.js";

// sparkline draws values over time; its label says the same in words.
export function sparkline(values, {width = 120, height = 28, label = ""} = {}) {
  const points = values.slice(-60);
  const top = Math.max(1e-9, ...points);
  const step = width / 59;
  const at = (i) => (width - (points.length - 1 - i) * step).toFixed(1);
  const y = (v) => (height - 2 - (v / top) * (height - 4)).toFixed(1);
  const line = points.map((v, i) => `${i ? "L" : "M"}${at(i)} ${y(v)}`).join("");
  const text = label + (points.length ? `, between ${rate(Math.min(...points))} and ${rate(Math.max(...points))}` : ", no figures yet");
  return h("svg", {class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": text},
    points.length > 1 && h("path", {class: "spark-area", d: `${line}L${width} ${height}L${at(0)} ${height}Z`}),
    points.length > 1 && h("path", {class: "spark-line", d: line}),
    h("title", {}, text));
}

// columns draws arrivals in steps of time.
export function columns(points, step, {width = 720, height = 120} = {}) {
  const per = points.map((p) => p.Records / step);
  const top = Math.max(1e-9, ...per);
  const each = width / Math.max(1, points.length);
  const first = points[0]?.Time;
  return h("figure", {class: "columns"},
    h("svg", {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `records per second, up to ${rate(top)}`},
    [0.5, 1].map((f) => h("line", {class: "grid", x1: 0, x2: width, y1: height - f * (height - 6), y2: height - f * (height - 6)})),
    points.map((p, i) => {
      const tall = (per[i] / top) * (height - 6);
      return h("rect", {x: i * each + 0.5, width: Math.max(0.5, each - 1.5), y: height - tall, height: tall, rx: Math.min(2, each / 4)},
        h("title", {}, `${clock(p.Time)}: ${count(p.Records)} records, ${rate(per[i])}`));
    })),
    h("figcaption", {}, h("span", {}, first ? clock(first).slice(0, -4) : ""), h("span", {}, `peak ${top > 1e-6 ? rate(top) : "0/s"}`), h("span", {}, "now")));
}

// Rates keeps the growth of counters over the last minute, by name.
export class Rates {
  constructor() {
    this.last = new Map();
    this.history = new Map();
  }

  // add notes a counter at a time in seconds, and returns its growth per second, or null if that is unknown.
  add(name, time, value) {
    const was = this.last.get(name);
    this.last.set(name, {time, value});
    if (!was || time <= was.time || value < was.value) return null;
    const r = (value - was.value) / (time - was.time);
    const list = this.history.get(name) || [];
    list.push(r);
    if (list.length > 60) list.shift();
    this.history.set(name, list);
    return r;
  }

  // rate returns the mean of the last few seconds, which varies less than the last value.
  rate(name, over = 3) {
    const list = (this.history.get(name) || []).slice(-over);
    return list.length ? list.reduce((a, b) => a + b, 0) / list.length : null;
  }

  list(name) {
    return this.history.get(name) || [];
  }

  // seed sets the history of a name from before the page was opened.
  seed(name, values) {
    this.history.set(name, [...values, ...this.list(name)].slice(-60));
  }
}
