// Records of a stream by shard, time, key or sequence number.

import {h, link, route} from "./dom.js";
import {get} from "./api.js";
import {crumbs, note} from "./ui.js";
import {Opened, line} from "./data.js";
import {bytes, clock, count, plural, shardNumber} from "./format.js";
import {tabs} from "./stream.js";
import {local} from "./actions.js";

const starts = [
  ["newest", "the newest"],
  ["oldest", "the oldest"],
  ["time", "a time"],
  ["sequence", "a sequence number"],
];

export function records({names: [name], params, draw}) {
  const ended = new AbortController();
  const form = {
    shard: params.get("shard") || "", start: params.get("start") || "newest", key: params.get("key") || "", match: params.get("match") || "",
    time: params.get("time") || local(new Date(Date.now() - 600e3)), sequence: params.get("sequence") || "", limit: params.get("limit") || "100",
  };
  let shards = [];
  let list = [];
  let page = null;
  let busy = false;
  let error = null;
  let lookedAt = 0;

  const opened = new Opened(() => show());
  const names = () => (form.shard ? ["streams", name, "shards", form.shard, "records"] : ["streams", name, "records"]);

  // load reads from a position on, and appends the records.
  const load = async (from) => {
    busy = true;
    error = null;
    show();
    try {
      page = await get(names(), {...from, limit: form.limit, key: form.key, match: form.match}, ended.signal);
      list = list.concat(page.Records);
      lookedAt += page.LookedAt;
    } catch (err) {
      if (ended.signal.aborted) return;
      error = err;
    }
    busy = false;
    show();
  };
  const begin = () => {
    const filtered = form.key || form.match;
    switch (form.start) {
      case "newest":
        return {last: filtered ? 10000 : form.limit};
      case "oldest":
        return {from: "TRIM_HORIZON"};
      case "time":
        return {from: "AT_TIMESTAMP " + new Date(form.time).toISOString().replace(/\.?0*Z$/, "Z")};
      default:
        return {from: "AT_SEQUENCE_NUMBER " + form.sequence.trim()};
    }
  };
  const search = () => {
    const kept = Object.entries(form).filter(([k, v]) => v && (k === "shard" || k === "start" || k === "key" || k === "match" || k === form.start));
    history.replaceState(null, "", route("streams", name, "records") + "?" + new URLSearchParams(kept));
    page = null;
    list = [];
    lookedAt = 0;
    try {
      load(begin());
    } catch {
      error = new Error("The time is incomplete.");
      show();
    }
  };
  const more = async () => {
    const at = list.length;
    await load({from: page.Next});
    document.querySelectorAll("#main .record > button")[at]?.focus();
  };
  const set = (field) => (e) => {
    form[field] = e.target.value;
    show();
  };

  const show = () => draw(
    crumbs(link("#/streams", "Streams"), link(route("streams", name), name), "Records"),
    h("h1", {}, "Records of " + name),
    tabs(name, "records"),
    h("form", {class: "filters", onsubmit: (e) => {
      e.preventDefault();
      search();
    }},
    h("label", {class: "field"}, h("span", {}, "Shard"), h("select", {onchange: set("shard")}, h("option", {value: "", selected: !form.shard}, "all"),
      shards.map((sh) => h("option", {key: sh.ID, value: sh.ID, selected: sh.ID === form.shard}, `${shardNumber(sh.ID)}${sh.Closed ? " (closed)" : ""}`)))),
    h("label", {class: "field"}, h("span", {}, "From"), h("select", {onchange: set("start")}, starts.map(([v, t]) => h("option", {value: v, selected: v === form.start}, t)))),
    form.start === "time" && h("label", {class: "field", key: "time"}, h("span", {}, "Time"), h("input", {type: "datetime-local", step: 1, value: form.time, oninput: set("time")})),
    form.start === "sequence" && h("label", {class: "field wide", key: "sequence"}, h("span", {}, "Sequence number"), h("input", {inputmode: "numeric", value: form.sequence, oninput: set("sequence")})),
    h("label", {class: "field", key: "key"}, h("span", {}, "Partition key"), h("input", {value: form.key, placeholder: "any", oninput: set("key")})),
    h("label", {class: "field", key: "match"}, h("span", {}, "Contains"), h("input", {value: form.match, placeholder: "text in key or data", oninput: set("match")})),
    h("div", {key: "go", class: "buttons"}, h("button", {class: "main", disabled: busy}, busy ? "Reading …" : "Show"))),
    error && note("bad", error.message, error.detail?.FirstAvailable && [" ", h("button", {type: "button", onclick: () => load({from: "AT_SEQUENCE_NUMBER " + error.detail.FirstAvailable})}, "Continue after them")]),
    page && [
      h("p", {class: "quiet", role: "status"}, `${plural(list.length, "record")} shown`, lookedAt > list.length && `, ${count(lookedAt)} looked at`,
        page.BehindRecords > 0 && `; ${count(page.BehindRecords)} follow`, page.EndOfShard && "; the shard is closed, and ends here", "."),
      h("ol", {class: "records"}, list.map((rec) => row(rec, opened, name))),
      !page.AtTip && h("button", {type: "button", disabled: busy, onclick: more}, form.key || form.match ? "Look further" : "Show more"),
      list.length === 0 && page.AtTip && h("p", {class: "quiet"}, "No records match."),
    ]);

  show();
  get(["streams", name], {}, ended.signal).then((answer) => {
    shards = answer.Stream.Shards;
    show();
  }, () => {});
  search();
  return () => ended.abort();
}

// row shows a record in one line, which can be expanded. Another text may replace the size,
// and more may follow in the expanded row.
export function row(rec, opened, stream, aside, ...extra) {
  const id = rec.SequenceNumber;
  const now = opened.shown(id, rec);
  const whole = () => get(["streams", stream, "shards", rec.ShardID, "records", id], {encrypted: "show"});
  const isOpen = opened.open.has(id);
  return h("li", {key: id, class: "record" + (isOpen ? " open" : "")},
    h("button", {type: "button", "aria-expanded": String(isOpen), onclick: () => opened.toggle(id)},
      h("time", {datetime: rec.ArrivalTime}, clock(rec.ArrivalTime)),
      h("span", {class: "where"}, shardNumber(rec.ShardID)),
      h("span", {class: "key"}, now.Withheld ? "–" : now.PartitionKey),
      h("span", {class: "line"}, line(now)),
      h("span", {class: aside ? "aside" : "size"}, aside || bytes(rec.DataBytes))),
    isOpen && h("div", {class: "inside"},
      h("dl", {class: "pairs"}, h("dt", {}, "Sequence number"), h("dd", {}, h("code", {}, id)),
        h("dt", {}, "Shard"), h("dd", {}, h("a", {href: route("streams", stream) + "?shard=" + rec.ShardID}, rec.ShardID)),
        h("dt", {}, "Partition key"), h("dd", {}, now.Withheld ? "encrypted" : h("a", {href: route("streams", stream, "records") + "?start=oldest&key=" + encodeURIComponent(now.PartitionKey)}, now.PartitionKey)),
        now.ExplicitHashKey && [h("dt", {}, "Explicit hash key"), h("dd", {}, h("code", {}, now.ExplicitHashKey))],
        h("dt", {}, "Arrived"), h("dd", {}, rec.ArrivalTime, rec.Encrypted ? ", stored encrypted" : "")),
      opened.body(id, rec, whole), extra));
}
