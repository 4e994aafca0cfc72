// All streams, with their load.

import {h, link, route} from "./dom.js";
import {get, poll} from "./api.js";
import {Rates, sparkline} from "./charts.js";
import {createStream} from "./actions.js";
import {badge, card, cards, loading, note, table} from "./ui.js";
import {bytes, count, plural, rate, retention} from "./format.js";

const rates = new Rates(); // kept while other views are shown
const seeded = new Set();
const seedAtMost = 12; // number of streams whose last minute is requested

export function streams({draw, onChange}) {
  let list = null;
  let filter = "";
  let error = null;

  const update = async (signal) => {
    try {
      list = await get(["streams"], {}, signal);
      error = null;
    } catch (err) {
      error = err;
    }
    const at = new Date(list?.Time).getTime() / 1000;
    for (const s of list?.Streams || []) {
      rates.add(s.Name + "/records", at, s.RecordsPut);
      rates.add(s.Name + "/bytes", at, s.BytesPut);
    }
    show();
    seed(list?.Streams || []).catch(() => {}); // the line grows without it
  };

  // seed requests the last minute of the first few streams, once.
  const seed = async (all) => {
    for (const s of all.slice(0, seedAtMost)) {
      if (seeded.has(s.Name) || s.Shards > 64) continue;
      seeded.add(s.Name);
      const past = await get(["streams", s.Name, "history"], {step: "1s", points: 50});
      rates.seed(s.Name + "/records", past.Points.slice(0, -1).map((p) => p.Records));
      show();
    }
  };

  const show = () => {
    const all = list?.Streams || [];
    const shown = all.filter((s) => s.Name.includes(filter));
    const total = (fn) => all.reduce((sum, s) => sum + fn(s), 0);
    draw(
      h("h1", {}, "Streams"),
      error && note("bad", error.message),
      !list && !error && loading,
      list && [
        cards(
          card("Streams", count(all.length) + (list.More ? "+" : "")),
          card("Open shards", count(total((s) => s.OpenShards))),
          card("Records", count(total((s) => s.Records)), bytes(total((s) => s.Bytes))),
          card("Put now", rate(total((s) => rates.rate(s.Name + "/records") || 0)), bytes(total((s) => rates.rate(s.Name + "/bytes") || 0)) + "/s"),
        ),
        all.length > 8 && h("label", {class: "field inline"}, h("span", {}, "Filter"),
          h("input", {type: "search", value: filter, placeholder: "name", oninput: (e) => {
            filter = e.target.value;
            show();
          }})),
        list.More && note("warn", `Only the first ${count(all.length)} streams are shown.`),
        table("Streams", ["Stream", ">Put now", "Last minute", ">Records", ">Size", ">Shards", "Kept for", ""], shown.map((s) =>
          h("tr", {key: s.Name},
            h("th", {scope: "row"}, link(route("streams", s.Name), s.Name)),
            h("td", {class: "num"}, rate(rates.rate(s.Name + "/records")), h("small", {}, bytes(rates.rate(s.Name + "/bytes") || 0) + "/s")),
            h("td", {}, sparkline(rates.list(s.Name + "/records"), {label: "records put to " + s.Name})),
            h("td", {class: "num"}, count(s.Records)),
            h("td", {class: "num"}, bytes(s.Bytes)),
            h("td", {class: "num"}, count(s.OpenShards), s.Shards > s.OpenShards && h("small", {}, plural(s.Shards - s.OpenShards, "closed", "closed"))),
            h("td", {}, retention(s.Retention), s.RetentionBytes > 0 && h("small", {}, "up to " + bytes(s.RetentionBytes))),
            h("td", {class: "badges"}, s.Mode !== "Unlimited" && badge("plain", s.Mode === "OnDemand" ? "on demand" : "provisioned"), s.Encrypted && badge("plain", "encrypted")))),
        filter ? "No stream matches." : "There are no streams yet. A program creates one with DB.OpenStream."),
        h("div", {class: "buttons"}, createStream(polling.wake)),
      ]);
  };

  show();
  const polling = poll(update, 1000);
  onChange(polling.wake);
  return polling.stop;
}
