// Applications: their workers, their progress in each shard, and failures.

import {h, link, route} from "./dom.js";
import {get, poll} from "./api.js";
import {actionButton, badge, card, cards, change, crumbs, loading, note, table} from "./ui.js";
import {Opened, line} from "./data.js";
import {ago, bytes, clock, count, duration, plural, seconds, shardNumber} from "./format.js";
import {local} from "./actions.js";

const kinds = {running: "good", done: "plain", waiting: "plain", unowned: "warn", paused: "warn", "handing over": "warn", retrying: "bad", failed: "bad"};

// urgency sorts shards that need attention first, and otherwise keeps the order.
const urgency = (sh) => ({failed: 2, retrying: 1, done: -1}[sh.State] ?? 0);

export const stateBadge = (state) => badge(kinds[state] || "plain", state);

const lag = (a) => (a.BehindRecords === 0 ? "caught up" : plural(a.BehindRecords, "record"));

export function apps({draw}) {
  let list = null;
  let error = null;
  const update = async (signal) => {
    try {
      list = await get(["apps"], {}, signal);
      error = null;
    } catch (err) {
      error = err;
    }
    show();
  };
  const show = () => draw(
    h("h1", {}, "Applications"),
    error && note("bad", error.message),
    !list && !error && loading,
    list?.More && note("warn", `Only the first ${count(list.Apps.length)} are shown.`),
    list && table("Applications", ["Application", "State", ">Workers", ">Shards", ">Behind", ">Bytes", ">Age"], list.Apps.map((a) => h("tr", {key: a.Name},
      h("th", {scope: "row"}, link(route("apps", a.Name), a.Name)),
      h("td", {class: "badges"}, a.Error ? badge("bad", "unknown") : a.Paused ? badge("warn", "paused") : null,
        Object.entries(a.States).sort().map(([state, n]) => badge(kinds[state] || "plain", a.Shards > 1 ? `${count(n)} ${state}` : state)),
        a.Error && h("small", {}, a.Error), a.AwaitedStreams && h("small", {}, "waits for " + a.AwaitedStreams.join(", "))),
      h("td", {class: "num"}, count(a.Workers)),
      h("td", {class: "num"}, count(a.Shards)),
      h("td", {class: "num"}, lag(a)),
      h("td", {class: "num"}, bytes(a.BehindBytes)),
      h("td", {class: "num"}, duration(seconds(a.BehindLatest))))),
    "No application has run a worker on this database yet."));
  show();
  return poll(update, 1000).stop;
}

export function app({names: [name], draw, onChange}) {
  let answer = null;
  let error = null;
  let letters = null;
  let withDone = false;
  let letterStream = "";
  let letterError = null;
  const opened = new Opened(() => show());

  const update = async (signal) => {
    try {
      answer = await get(["apps", name], {}, signal);
      error = null;
      letterStream ||= answer.Status.DeadLetterStreams?.[0] || "";
    } catch (err) {
      error = err;
    }
    show();
  };
  const updateLetters = async (signal) => {
    if (!letterStream) return;
    try {
      letters = await get(["apps", name, "deadletters"], {stream: letterStream, limit: 50}, signal);
      letterError = null;
    } catch (err) {
      letterError = err;
    }
    show();
  };

  const show = () => {
    const s = answer?.Status;
    const finished = (s?.Shards || []).filter((sh) => sh.State === "done").length;
    const shown = (s?.Shards || []).filter((sh) => withDone || sh.State !== "done").sort((a, b) => urgency(b) - urgency(a));
    draw(
      crumbs(link("#/apps", "Applications"), name),
      h("h1", {}, name),
      error && note("bad", error.message),
      !s && !error && loading,
      s && [
        s.Paused && note("warn", "The whole application is paused."),
        s.PausedStreams?.length > 0 && note("warn", "Paused streams: " + s.PausedStreams.join(", ")),
        s.AwaitedStreams?.length > 0 && note("warn", "The application waits for streams that do not exist: " + s.AwaitedStreams.join(", ")),
        s.AwaitedDeadLetterStreams?.length > 0 && note("warn", "Failed records wait for a dead-letter stream that does not exist: " + s.AwaitedDeadLetterStreams.join(", ")),
        cards(
          card("Behind", lag(s), bytes(s.BehindBytes)),
          card("Oldest record", s.BehindRecords ? duration(seconds(s.BehindLatest)) : "–", "not processed"),
          card("Workers here", count(s.Workers?.length || 0)),
          card("Shards", count(answer.Shards), states(s.Shards)),
        ),
        h("div", {class: "buttons"}, appActions(name, "", "", s.Paused, poller.wake)),
        answer.MoreShards && note("warn", `Only the first ${count(s.Shards.length)} of ${count(answer.Shards)} shards are shown.`),
        h("section", {}, h("div", {class: "head"}, h("h2", {}, "Shards"), finished > 0 && h("button", {type: "button", "aria-pressed": String(withDone), onclick: () => {
          withDone = !withDone;
          show();
        }}, withDone ? `Hide ${count(finished)} done` : `Show ${count(finished)} done`)),
        table("Shards", ["Shard", "State", "Worker", ">Behind", ">Bytes", ">Age", "Current work", ""], shown.map((sh) => shardRow(sh)), finished ? "All shards are done." : "The application has not seen any shard yet.")),
        failed(s.Shards || []),
        h("section", {}, h("h2", {}, "Workers of this process"), s.Workers?.length
          ? h("ul", {class: "plainlist"}, s.Workers.map((w) => h("li", {key: w}, h("code", {}, w), " ", h("small", {class: "quiet"}, plural((s.Shards || []).filter((sh) => sh.Owner === w).length, "shard")))))
          : h("p", {class: "quiet"}, "None.")),
        letterSection(s),
      ]);
  };

  const shardRow = (sh) => h("tr", {key: sh.Stream + "/" + sh.Shard},
    h("th", {scope: "row"}, h("a", {href: route("streams", sh.Stream) + "?shard=" + sh.Shard}, `${sh.Stream} ${shardNumber(sh.Shard)}`)),
    h("td", {class: "badges"}, stateBadge(sh.State), sh.Attempt > 1 && h("small", {}, `attempt ${count(sh.Attempt)}`)),
    h("td", {}, sh.Owner ? h("code", {}, sh.Owner) : "–"),
    h("td", {class: "num"}, sh.State === "done" ? "–" : count(sh.BehindRecords)),
    h("td", {class: "num"}, sh.State === "done" ? "–" : bytes(sh.BehindBytes)),
    h("td", {class: "num"}, sh.BehindRecords ? duration(seconds(sh.BehindLatest)) : "–"),
    h("td", {}, sh.Call ? `${sh.Call.Method}${sh.Call.Records ? " of " + plural(sh.Call.Records, "record") : ""}, since ${ago(sh.Call.Since).replace(" ago", "")}`
      : sh.Wait ? "waits for " + sh.Wait : sh.WaitingFor?.length ? "waits for shard " + sh.WaitingFor.map(shardNumber).join(", ") : "–"),
    h("td", {class: "buttons small"}, appActions(name, sh.Stream, sh.Shard, sh.Paused, poller.wake, sh)));

  const failed = (shards) => {
    const bad = shards.filter((sh) => sh.Err);
    return bad.length > 0 && h("section", {}, h("h2", {}, "Failures"), bad.map((sh) => {
      const [first, ...rest] = sh.Err.split("\n");
      return h("details", {key: sh.Stream + sh.Shard, class: "failure"},
        h("summary", {}, stateBadge(sh.State), ` ${sh.Stream} ${shardNumber(sh.Shard)}: `, first),
        h("pre", {tabindex: 0}, rest.length ? sh.Err : first));
    }));
  };

  const letterSection = (s) => h("section", {}, h("h2", {}, "Dead letters"),
    s.DeadLetterStreams?.length || letterStream ? null : h("p", {class: "quiet"}, "No worker of this process names a dead-letter stream."),
    letterStream && h("p", {class: "quiet"}, "From the stream ", link(route("streams", letterStream), letterStream), ", oldest first."),
    letterError && note("bad", letterError.message),
    letters && (letters.Letters.length === 0 ? h("p", {class: "quiet"}, "There are none.")
      : h("ol", {class: "records"}, letters.Letters.map((l) => letterRow(l)))),
    letters && !letters.AtTip && note("warn", "Not all dead letters are shown."));

  const letterRow = (l) => {
    const id = l.SequenceNumber;
    const rec = l.Letter && {...l.Letter, DataBytes: l.DataBytes};
    const isOpen = opened.open.has(id);
    return h("li", {key: id, class: "record" + (isOpen ? " open" : "")},
      h("button", {type: "button", "aria-expanded": String(isOpen), onclick: () => opened.toggle(id)},
        h("time", {datetime: l.ArrivalTime}, clock(l.ArrivalTime)),
        h("span", {class: "where"}, rec ? shardNumber(rec.ShardID) : "–"),
        h("span", {class: "key"}, rec ? rec.PartitionKey : "–"),
        h("span", {class: "line"}, rec ? rec.Error.split("\n")[0].replace(/^record \d+ of shardId-\d+: /, "") : l.Problem),
        h("span", {class: "aside"}, rec ? line(rec) : "")),
      isOpen && rec && h("div", {class: "inside"},
        h("dl", {class: "pairs"}, h("dt", {}, "Failed record"), h("dd", {}, h("code", {}, rec.SequenceNumber)), h("dt", {}, "Of"), h("dd", {}, `${rec.Stream}, shard ${shardNumber(rec.ShardID)}`),
          h("dt", {}, "Attempts"), h("dd", {}, count(rec.Attempts)), h("dt", {}, "Error"), h("dd", {}, h("pre", {tabindex: 0}, rec.Error))),
        opened.body(id, rec),
        h("div", {class: "buttons"}, actionButton("Put back …", {
          title: "Put the record back",
          verb: "Put back",
          text: `The record is put into ${rec.Stream} again, under its key ${rec.PartitionKey}, as a new record: every application that reads the stream gets it. ` +
            "The letter stays in the dead-letter stream, so it can be put back twice.",
          run: async () => `The record is now in shard ${shardNumber((await change(["apps", name, "deadletters", "putback"], {Stream: letterStream, SequenceNumber: id})).ShardID)}.`,
        }))));
  };

  show();
  const poller = poll(update, 1000);
  const letterPoller = poll(updateLetters, 3000);
  setTimeout(() => letterPoller.wake(), 500);
  onChange(poller.wake);
  return () => {
    poller.stop();
    letterPoller.stop();
  };
}

function states(shards) {
  const by = new Map();
  for (const sh of shards || []) by.set(sh.State, (by.get(sh.State) || 0) + 1);
  return [...by].sort().map(([state, n]) => `${count(n)} ${state}`).join(", ");
}

// appActions are the actions for a shard, or, with empty names, for the whole application.
function appActions(app, stream, shard, paused, after, status) {
  const what = shard ? `shard ${shardNumber(shard)} of ${stream}` : `the whole application ${app}`;
  const key = {Stream: stream, Shard: shard};
  return [
    status?.State === "done" ? null : paused || status?.State === "failed"
      ? actionButton(status?.State === "failed" && !paused ? "Try again …" : "Resume …", {
        title: `Resume ${what}`, verb: "Resume",
        text: status?.State === "failed" && !paused ? `${app} tries ${what} again, from the record at which it stopped.` : `${app} continues with ${what}, unless it is also paused at another level.`,
        run: async () => void (await change(["apps", app, "resume"], key)), after,
      })
      : actionButton("Pause …", {
        title: `Pause ${what}`, verb: "Pause",
        text: `${app} processes no more records of ${what} until it is resumed, even after a restart. Current batches are finished.`,
        run: async () => void (await change(["apps", app, "pause"], key)), after,
      }),
    actionButton("Seek …", {
      title: `Move ${what}`, verb: "Move", danger: true,
      fields: [
        {name: "to", label: "To", value: "TRIM_HORIZON", options: [["TRIM_HORIZON", "the oldest record"], ["LATEST", "the end: skip everything"], ["time", "a time"]]},
        {name: "time", label: "Time", value: local(new Date(Date.now() - 3600e3)), type: "datetime-local", step: 1, hint: "in this browser's time zone", when: (v) => v.to === "time"},
      ],
      text: (v) => `The checkpoint of ${app} in ${what} moves to ${{TRIM_HORIZON: "the oldest record: everything is processed again", LATEST: "the end: records that are not processed yet never will be"}[v.to] || v.time.replace("T", " ") + ": later records are processed, even if they were before"}. Workers lose their leases and begin there.`,
      run: async (v) => void (await change(["apps", app, "seek"], {...key, To: v.to === "time" ? "AT_TIMESTAMP " + new Date(v.time).toISOString().replace(/\.?0*Z$/, "Z") : v.to})), after,
    }),
  ];
}
