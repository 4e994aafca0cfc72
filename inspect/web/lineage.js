// Shards over time: a band for each over its range of hash keys, and, between parents and
// children, the hash keys that moved. Times are in order, not to scale: a stream may be quiet
// for a month, and then split twice in a second.

import {h} from "./dom.js";
import {clock, count, fraction, shardNumber} from "./format.js";

const atMost = 240; // the newest shards, which are drawn
const present = 44; // width after the last change
const legible = 18; // height of a band from which on it has a number

export function lineage(all, loads, {selected, select}) {
  const shards = all.slice(-atMost);
  const byID = new Map(shards.map((sh) => [sh.ID, sh]));
  const times = [...new Set(shards.flatMap((sh) => (sh.ClosedAt ? [sh.CreatedAt, sh.ClosedAt] : [sh.CreatedAt])).map(instant))].sort((a, b) => a - b);
  const column = new Map(times.map((t, i) => [t, i]));
  const columnOf = (t) => column.get(instant(t));
  const each = Math.max(84, Math.min(220, 1040 / times.length));
  const gap = each * 0.42;
  const width = times.length * each + present;
  // Tall enough for the number of each open shard, unless some ranges are very narrow.
  const narrowest = Math.min(1, ...shards.filter((sh) => !sh.Closed).map((sh) => fraction(sh.HashKeyRange.End) - fraction(sh.HashKeyRange.Start)));
  const height = Math.min(460, Math.max(180, legible / Math.max(1e-6, narrowest)));
  const place = (sh) => {
    const from = columnOf(sh.CreatedAt);
    const to = sh.Closed ? columnOf(sh.ClosedAt) : times.length;
    const y = fraction(sh.HashKeyRange.Start) * height;
    const x = from * each + (from ? gap : 4);
    return {x, y, wide: Math.max(6, to * each - x + (sh.Closed ? 0 : present - 4)), tall: Math.max(1.5, fraction(sh.HashKeyRange.End) * height - y)};
  };
  const ribbons = [];
  for (const child of shards) {
    for (const id of child.Parents || []) {
      const parent = byID.get(id);
      if (!parent) continue; // it has expired
      const a = place(parent);
      const b = place(child);
      const top = Math.max(a.y, b.y);
      const bottom = Math.min(a.y + a.tall, b.y + b.tall);
      const x1 = a.x + a.wide;
      const mid = (x1 + b.x) / 2;
      // Bands are drawn a little inside their range, and the joints narrow to match.
      const [t1, b1, t2, b2] = [inset(top, a, 1), inset(bottom, a, -1), inset(top, b, 1), inset(bottom, b, -1)];
      ribbons.push(h("path", {key: id + child.ID, class: "ribbon" + (child.ID === selected || id === selected ? " chosen" : ""),
        d: `M${x1} ${t1}C${mid} ${t1} ${mid} ${t2} ${b.x} ${t2}L${b.x} ${b2}C${mid} ${b2} ${mid} ${b1} ${x1} ${b1}Z`}));
    }
  }
  return h("figure", {class: "lineage"},
    all.length > atMost && h("p", {class: "quiet"}, `The newest ${count(atMost)} of ${count(all.length)} shards.`),
    h("div", {class: "scroll", tabindex: -1, created: stayAtTheEnd},
      h("svg", {viewBox: `0 0 ${width} ${height + 26}`, width, height: height + 26, role: "group", "aria-label": "Shards through time"},
        ribbons,
        shards.map((sh) => {
          const {x, y, wide, tall} = place(sh);
          const l = sh.Closed ? null : loads.get(sh.ID)?.level;
          const pad = Math.min(2, tall / 4);
          return h("g", {
            key: sh.ID, id: "lineage-" + sh.ID, class: `band ${sh.Closed ? "closed" : l?.name || "idle"}` + (sh.ID === selected ? " chosen" : ""),
            tabindex: 0, role: "button", "aria-pressed": String(sh.ID === selected), "aria-label": describe(sh, l),
            onclick: () => select(sh.ID), onkeydown: (e) => keys(e, sh, shards, byID, select),
          },
          h("rect", {x, y: y + pad, width: wide, height: tall - 2 * pad, rx: Math.min(6, tall / 3)}),
          tall > 12 && wide > 24 && (sh.Closed || wide <= 200) && h("text", {x: x + 8, y: y + tall / 2 + 4}, label(sh, l, wide)),
          // The beginning of a shard that is still open may be out of sight.
          tall > 12 && wide > 200 && !sh.Closed && [
            h("text", {x: x + 8, y: y + tall / 2 + 4}, shardNumber(sh.ID)),
            h("text", {class: "end", x: x + wide - 8, y: y + tall / 2 + 4}, label(sh, l, wide)),
          ],
          h("title", {}, describe(sh, l)));
        }),
        times.map((t, i) => h("text", {key: "t" + t, class: "time", x: i * each + (i ? gap : 4), y: height + 18}, clock(t).slice(0, -4))),
        h("text", {key: "now", class: "time now", x: width - 4, y: height + 18}, "now"))));
}

// label returns the number of a shard, marked if its load should be noticed.
const label = (sh, l, wide) => shardNumber(sh.ID) + (wide > 60 && (l?.name === "warm" || l?.name === "hot") ? " " + l.text : "");

// stayAtTheEnd shows the present, unless the user has scrolled to the past.
function stayAtTheEnd(node) {
  let atEnd = true;
  node.addEventListener("scroll", () => (atEnd = node.scrollLeft + node.clientWidth >= node.scrollWidth - 8));
  const follow = new ResizeObserver(() => atEnd && (node.scrollLeft = node.scrollWidth));
  follow.observe(node);
  requestAnimationFrame(() => node.firstElementChild && follow.observe(node.firstElementChild));
}

const instant = (text) => new Date(text).getTime();

const inset = (y, band, sign) => y + sign * Math.min(2, band.tall / 4);

function describe(sh, l) {
  const from = sh.Parents?.length ? (sh.Parents.length > 1 ? "merged from shards " : "split from shard ") + sh.Parents.map(shardNumber).join(" and ") : "there from the beginning";
  const to = sh.Children?.length ? ", became " + sh.Children.map((id) => "shard " + shardNumber(id)).join(" and ") : "";
  return `shard ${shardNumber(sh.ID)}, ${sh.Closed ? "closed" : "open, " + (l?.text || "idle")}, ${from}${to}`;
}

// keys: left to a parent, right to a child, up and down to the next in the hash-key space.
function keys(event, sh, shards, byID, select) {
  const beside = (dir) => {
    const same = shards.filter((o) => !sh.Closed === !o.Closed).sort((a, b) => fraction(a.HashKeyRange.Start) - fraction(b.HashKeyRange.Start));
    return same[same.indexOf(sh) + dir]?.ID;
  };
  let to = null;
  switch (event.key) {
    case "Enter":
    case " ":
      event.preventDefault();
      select(sh.ID);
      return;
    case "ArrowLeft":
      to = sh.Parents?.find((id) => byID.has(id));
      break;
    case "ArrowRight":
      to = sh.Children?.find((id) => byID.has(id));
      break;
    case "ArrowUp":
      to = beside(-1);
      break;
    case "ArrowDown":
      to = beside(1);
      break;
    default:
      return;
  }
  event.preventDefault();
  if (to) document.getElementById("lineage-" + to)?.focus();
}
