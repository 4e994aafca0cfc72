// The open shards of a stream by hash key. Height, colour and words show the load of each.

import {h} from "./dom.js";
import {fraction, rate, shardNumber} from "./format.js";

export const levels = [
  {name: "idle", text: "idle", about: "nothing is put to it"},
  {name: "cool", text: "below its share", about: "less than half of an even share"},
  {name: "even", text: "an even share", about: "half to twice of an even share"},
  {name: "warm", text: "busy", about: "2 to 4 times an even share"},
  {name: "hot", text: "hot", about: "more than 4 times an even share"},
];

// level compares the load of a shard with its share if the load were even over the hash keys.
export function level(shard, shardRate, total) {
  if (!(shardRate > 0)) return levels[0];
  const share = fraction(shard.HashKeyRange.End) - fraction(shard.HashKeyRange.Start) + 1e-6;
  const times = shardRate / total / share;
  return levels[times < 0.5 ? 1 : times <= 2 ? 2 : times <= 4 ? 3 : 4];
}

export function hashBar(open, loads, {selected, select}) {
  const width = 1000;
  const height = 150;
  const floor = 26;
  const shards = [...open].sort((a, b) => fraction(a.HashKeyRange.Start) - fraction(b.HashKeyRange.Start));
  const density = (sh) => loads.get(sh.ID).rate / Math.max(1e-6, fraction(sh.HashKeyRange.End) - fraction(sh.HashKeyRange.Start));
  const top = Math.max(1e-9, ...shards.map((sh) => density(sh)));
  return h("figure", {class: "hashbar"},
    h("svg", {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "group", "aria-label": "Open shards by hash key"},
      shards.map((sh, i) => {
        const x = fraction(sh.HashKeyRange.Start) * width;
        const wide = Math.max(1, fraction(sh.HashKeyRange.End) * width - x);
        const {rate: r, level: l} = loads.get(sh.ID);
        const tall = floor + Math.sqrt(density(sh) / top) * (height - floor - 4);
        return h("g", {
          key: sh.ID, class: `shard ${l.name}` + (sh.ID === selected ? " chosen" : ""), tabindex: 0, role: "button",
          "aria-pressed": String(sh.ID === selected), "aria-label": `shard ${shardNumber(sh.ID)}, ${rate(r)}, ${l.text}`,
          onclick: () => select(sh.ID),
          onkeydown: (e) => keys(e, sh.ID, select, i, shards.length),
        },
        h("rect", {class: "back", x, y: 0, width: wide, height}),
        h("rect", {class: "fill", x: x + 0.75, y: height - tall, width: Math.max(0.5, wide - 1.5), height: tall}),
        h("title", {}, `shard ${shardNumber(sh.ID)}: ${rate(r)}, ${l.text}`));
      })),
    // Text is not part of the picture, which is stretched.
    h("div", {class: "hashlabels", "aria-hidden": "true"}, shards.map((sh) => {
      const from = fraction(sh.HashKeyRange.Start);
      const share = fraction(sh.HashKeyRange.End) - from;
      return share > 0.035 && h("span", {key: sh.ID, class: loads.get(sh.ID).level.name, style: {left: from * 100 + "%", width: share * 100 + "%"}},
        h("b", {}, shardNumber(sh.ID)), share > 0.07 && h("small", {}, rate(loads.get(sh.ID).rate)));
    })),
    h("figcaption", {}, h("span", {}, "00000000…"), h("span", {}, "80000000…"), h("span", {}, "ffffffff…")),
    legend());
}

const legend = () =>
  h("ul", {class: "legend", "aria-label": "What the colours mean"}, levels.map((l) => h("li", {title: l.about}, h("i", {class: "swatch " + l.name}), l.text)));

// keys selects a shard by Enter, and moves to the next one by arrow keys.
function keys(event, id, select, i, n) {
  const to = {ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: n - 1}[event.key];
  if (event.key === "Enter" || event.key === " ") select(id);
  else if (to == null) return;
  event.preventDefault();
  if (to != null) event.currentTarget.parentNode.querySelectorAll("g.shard")[Math.min(n - 1, Math.max(0, to))]?.focus();
}
