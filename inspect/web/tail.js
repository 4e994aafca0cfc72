// Records as they come, at a rate that people can follow.

import {h, link, route} from "./dom.js";
import {get, url} from "./api.js";
import {badge, crumbs, note} from "./ui.js";
import {Opened} from "./data.js";
import {row} from "./records.js";
import {bytes, count, plural, shardNumber} from "./format.js";
import {tabs} from "./stream.js";

const keep = 200;

export function tail({names: [name], params, draw}) {
  const ended = new AbortController();
  const form = {shard: params.get("shard") || "", key: params.get("key") || "", match: params.get("match") || "", rate: params.get("rate") || "10"};
  let shards = [];
  let list = []; // records and marks, newest first
  let events = null;
  let state = "off";
  let shown = 0;
  let left = {Records: 0, Bytes: 0};
  let problem = null;
  let drawn = false; // a draw is due

  const soon = () => {
    if (drawn) return;
    drawn = true;
    requestAnimationFrame(() => {
      drawn = false;
      if (!ended.signal.aborted) show();
    });
  };
  const opened = new Opened(() => show());

  const stop = () => {
    events?.close();
    events = null;
    state = "off";
  };
  const start = () => {
    stop();
    problem = null;
    state = "connecting";
    events = new EventSource(url(["tail"], {stream: name, ...form}));
    events.onopen = () => {
      state = "on";
      soon();
    };
    events.onerror = () => {
      if (events?.readyState === EventSource.CLOSED) {
        stop();
        problem = "The connection was refused: the stream may not exist any more, or too many connections are open.";
      } else state = "connecting";
      soon();
    };
    events.addEventListener("record", (e) => add({record: JSON.parse(e.data)}, () => shown++));
    events.addEventListener("left-out", (e) => {
      const out = JSON.parse(e.data);
      left = {Records: left.Records + out.Records, Bytes: left.Bytes + out.Bytes};
      if (list[0]?.left) {
        list[0] = {...list[0], left: {Records: list[0].left.Records + out.Records, Bytes: list[0].left.Bytes + out.Bytes}};
        soon();
      } else add({left: out, at: Date.now() + "/" + left.Records});
    });
    events.addEventListener("end", (e) => {
      const why = JSON.parse(e.data);
      stop();
      problem = why.Error ? why.Error : "The shard is closed, and was read to its end.";
      soon();
    });
    show();
  };
  const add = (entry, counted) => {
    counted?.();
    list.unshift(entry);
    if (list.length > keep) list.length = keep;
    soon();
  };
  const set = (field) => (e) => {
    form[field] = e.target.value;
    show();
  };

  const show = () => draw(
    crumbs(link("#/streams", "Streams"), link(route("streams", name), name), "Live tail"),
    h("h1", {}, "Live tail of " + name),
    tabs(name, "tail"),
    h("form", {class: "filters", onsubmit: (e) => {
      e.preventDefault();
      start();
    }},
    h("label", {class: "field"}, h("span", {}, "Shard"), h("select", {onchange: set("shard")}, h("option", {value: "", selected: !form.shard}, "all"),
      shards.map((sh) => h("option", {key: sh.ID, value: sh.ID, selected: sh.ID === form.shard}, shardNumber(sh.ID))))),
    h("label", {class: "field"}, h("span", {}, "Partition key"), h("input", {value: form.key, placeholder: "any", oninput: set("key")})),
    h("label", {class: "field"}, h("span", {}, "Contains"), h("input", {value: form.match, placeholder: "text in key or data", oninput: set("match")})),
    h("label", {class: "field"}, h("span", {}, "At most"), h("select", {onchange: set("rate")}, [["4", "4 a second"], ["10", "10 a second"], ["40", "40 a second"], ["200", "200 a second"]].map(([v, t]) => h("option", {value: v, selected: v === form.rate}, t)))),
    h("div", {class: "buttons"}, h("button", {class: "main"}, state === "off" ? "Start" : "Apply"),
      state !== "off" && h("button", {type: "button", key: "stop", onclick: () => {
        stop();
        show();
      }}, "Pause"))),
    problem && note("warn", problem),
    h("p", {class: "quiet"}, state === "on" ? badge("good", "live") : state === "connecting" ? badge("warn", "connecting") : badge("plain", "paused"), " ",
      `${plural(shown, "record")} shown`, left.Records > 0 && [", ", h("b", {}, `${count(left.Records)} left out`), ` (${bytes(left.Bytes)}), because they came faster than the rate`], "."),
    h("ol", {class: "records", id: "tail"}, list.map((entry) => (entry.record ? row(entry.record, opened, name)
      : h("li", {key: entry.at, class: "leftout"}, `${count(entry.left.Records)} records left out here`)))),
    list.length === 0 && h("p", {class: "quiet"}, state === "off" ? "Start to see records as they are put." : "Waiting for a record …"));

  get(["streams", name], {open: true}, ended.signal).then((answer) => {
    shards = answer.Stream.Shards;
    show();
  }, () => {});
  start();
  return () => {
    ended.abort();
    stop();
  };
}

