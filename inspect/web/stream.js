// One stream: its arrivals, its shards by hash key and over time, its settings.

import {h, link, route} from "./dom.js";
import {get, poll} from "./api.js";
import {columns, Rates} from "./charts.js";
import {badge, card, cards, crumbs, loading, note, table} from "./ui.js";
import {ago, bytes, count, hash, plural, rate, retention, seconds, shardNumber} from "./format.js";
import {hashBar, level} from "./hashbar.js";
import {lineage} from "./lineage.js";
import {shardActions, streamActions} from "./actions.js";

const steps = [
  ["1s", 60, "1 min"],
  ["10s", 60, "10 min"],
  ["1m0s", 60, "1 h"],
  ["24m0s", 60, "1 d"],
];

// tabs links the views of a stream.
export const tabs = (name, current) =>
  h("nav", {class: "tabs", "aria-label": "Views of the stream"},
    [["", "Shards"], ["records", "Records"], ["tail", "Live tail"]].map(([path, title]) =>
      h("a", {href: path ? route("streams", name, path) : route("streams", name), "aria-current": path === current ? "page" : null}, title)));

export function stream({names: [name], params, draw, onChange}) {
  const rates = new Rates();
  let answer = null;
  let past = null;
  let span = 1;
  let selected = params.get("shard");
  let error = null;

  const update = async (signal) => {
    try {
      answer = await get(["streams", name], {}, signal);
      error = null;
      const at = new Date(answer.Time).getTime() / 1000;
      for (const sh of answer.Stream.Shards) {
        rates.add(sh.ID + "/records", at, sh.RecordsPut);
        rates.add(sh.ID + "/bytes", at, sh.BytesPut);
      }
    } catch (err) {
      error = err;
    }
    show();
  };
  const updatePast = async (signal) => {
    const [step, points] = steps[span];
    const next = await get(["streams", name, "history"], {step, points}, signal).catch(() => null);
    if (next && next.Step === step) past = next;
    show();
  };

  const select = (id) => {
    selected = selected === id ? null : id;
    show();
  };

  const show = () => {
    const s = answer?.Stream;
    const rateOf = (id) => rates.rate(id + "/records") || 0;
    const open = (s?.Shards || []).filter((sh) => !sh.Closed);
    const total = open.reduce((sum, sh) => sum + rateOf(sh.ID), 0);
    const loads = new Map(open.map((sh) => [sh.ID, {rate: rateOf(sh.ID), bytes: rates.rate(sh.ID + "/bytes") || 0, level: level(sh, rateOf(sh.ID), total)}]));
    const chosen = s?.Shards.find((sh) => sh.ID === selected);
    draw(
      crumbs(link("#/streams", "Streams"), name),
      h("h1", {}, name),
      tabs(name, ""),
      error && note("bad", error.message),
      !s && !error && loading,
      s && [
        cards(
          card("Put now", rate(total), bytes(open.reduce((sum, sh) => sum + loads.get(sh.ID).bytes, 0)) + "/s"),
          card("Records", count(s.Records), bytes(s.Bytes)),
          card("Shards", count(answer.OpenShards) + " open", answer.Shards > answer.OpenShards && plural(answer.Shards - answer.OpenShards, "closed", "closed")),
          card("Kept for", retention(s.Retention), s.RetentionBytes > 0 && "up to " + bytes(s.RetentionBytes)),
        ),
        answer.MoreShards && note("warn", `Only the first ${count(s.Shards.length)} of ${count(answer.Shards)} shards are shown.`),
        h("section", {}, h("div", {class: "head"}, h("h2", {}, "Arrivals"),
          h("div", {class: "choice", role: "group", "aria-label": "Span of time"}, steps.map(([, , title], i) =>
            h("button", {type: "button", "aria-pressed": String(i === span), onclick: () => {
              span = i;
              past = null;
              pasts.wake();
              show();
            }}, title)))),
        past ? columns(past.Points, seconds(past.Step)) : h("p", {class: "quiet tall"}, "Counting …")),
        h("section", {}, h("h2", {}, "Hash keys"),
          h("p", {class: "quiet"}, "Each open shard over its range of hash keys. The height is its load in proportion to its width."),
          hashBar(open, loads, {selected, select})),
        h("section", {"aria-live": "polite"}, chosen ? shardDetails(s, chosen, loads.get(chosen.ID), select) : h("p", {class: "quiet"}, "Choose a shard, here or below, to see its details and actions.")),
        h("section", {}, h("h2", {}, "Splits and merges"),
          h("p", {class: "quiet"}, "Time runs from left to right, hash keys from the lowest at the top to the highest at the bottom. Arrow keys follow the lineage."),
          lineage(s.Shards, loads, {selected, select})),
        h("section", {}, h("h2", {}, "Shards"), shardTable(s, loads, select, selected),
          s.Shards.length > listed && h("p", {class: "quiet"}, `${count(listed)} of ${count(s.Shards.length)} shards are listed, the open ones first.`)),
        h("section", {}, h("h2", {}, "Settings"), settings(s), streamActions(s, answer, poller.wake)),
      ]);
  };

  const shardDetails = (s, sh, load, choose) =>
    h("div", {class: "details"},
      h("div", {class: "head"}, h("h2", {}, "Shard " + shardNumber(sh.ID)),
        h("button", {type: "button", class: "plain", "aria-label": "Close the details", onclick: () => choose(sh.ID)}, "✕")),
      h("dl", {class: "pairs"},
        pair("Id", h("code", {}, sh.ID)),
        pair("State", sh.Closed ? "closed " + ago(sh.ClosedAt) : "open"),
        load && pair("Put now", `${rate(load.rate)}, ${bytes(load.bytes)}/s (${load.level.text})`),
        pair("Records", `${count(sh.Records)}, ${bytes(sh.Bytes)}`),
        pair("Ever put", `${count(sh.RecordsPut)}, ${bytes(sh.BytesPut)}`),
        pair("Hash keys", h("code", {}, `${hash(sh.HashKeyRange.Start)} to ${hash(sh.HashKeyRange.End)}`)),
        pair("Created", ago(sh.CreatedAt)),
        pair("Parents", sh.Parents?.length ? sh.Parents.map((id) => [" ", shardButton(id, choose)]) : "none: created with the stream"),
        sh.Children?.length && pair("Became", sh.Children.map((id) => [" ", shardButton(id, choose)]))),
      h("div", {class: "buttons"},
        h("a", {class: "button", href: route("streams", name, "records") + "?shard=" + sh.ID}, "Records"),
        !sh.Closed && h("a", {class: "button", href: route("streams", name, "tail") + "?shard=" + sh.ID}, "Live tail"),
        shardActions(s, sh, poller.wake)));

  show();
  const poller = poll(update, 1000);
  const pasts = poll(updatePast, 5000);
  onChange(poller.wake);
  return () => {
    poller.stop();
    pasts.stop();
  };
}

const pair = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

const shardButton = (id, select) => h("button", {type: "button", class: "link", onclick: () => select(id)}, "shard " + shardNumber(id));

function shardTable(s, loads, select, selected) {
  const rows = [...s.Shards].sort((a, b) => a.Closed - b.Closed || (a.ID < b.ID ? -1 : 1));
  return table("Shards", ["Shard", "State", ">Put now", ">Records", ">Size", "Hash keys from"], rows.slice(0, listed).map((sh) => {
    const load = loads.get(sh.ID);
    return h("tr", {key: sh.ID, class: sh.ID === selected ? "chosen" : null},
      h("th", {scope: "row"}, shardButton(sh.ID, select)),
      h("td", {}, sh.Closed ? badge("plain", "closed") : badge("good", "open")),
      h("td", {class: "num"}, load ? rate(load.rate) : "–", load && load.rate > 0 && h("small", {}, load.level.text)),
      h("td", {class: "num"}, count(sh.Records)),
      h("td", {class: "num"}, bytes(sh.Bytes)),
      h("td", {}, h("code", {}, hash(sh.HashKeyRange.Start))));
  }));
}

const listed = 200; // rows of the table of shards

const settings = (s) =>
  h("dl", {class: "pairs"},
    pair("Created", ago(s.CreatedAt)),
    pair("Retention", retention(s.Retention) + (s.RetentionBytes > 0 ? `, up to ${bytes(s.RetentionBytes)}` : "")),
    pair("Largest record", bytes(s.MaxRecordBytes)),
    pair("Capacity", {Unlimited: "unlimited", Provisioned: "provisioned", OnDemand: "on demand"}[s.Capacity.Mode] + (s.Capacity.Mode === "Unlimited" ? ""
      : `: a shard takes ${count(s.Capacity.WriteRecordsPerSecond || 1000)} records/s and ${bytes(s.Capacity.WriteBytesPerSecond || 1 << 20)}/s`)),
    pair("Encryption", s.EncryptionKey ? ["with the key ", h("code", {}, s.EncryptionKey)] : "none"),
    Object.keys(s.Tags || {}).length > 0 && pair("Tags", Object.entries(s.Tags).map(([k, v]) => [badge("plain", `${k}: ${v}`), " "])));

