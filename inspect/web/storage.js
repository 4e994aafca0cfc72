// The storage under the database.

import {h, link, route} from "./dom.js";
import {get, poll} from "./api.js";
import {Rates, sparkline} from "./charts.js";
import {quantile, since} from "./histogram.js";
import {card, cards, loading, note, table} from "./ui.js";
import {bytes, clock, count, duration, rate, seconds} from "./format.js";

const rates = new Rates();
const growing = ["RecordsPut", "BytesPut", "Commits", "PutsThrottled", "ReadsThrottled", "TailReads", "StoreReads", "BytesFlushed", "BytesCompacted", "Compactions", "CacheHits", "CacheMisses"];

export function storage({draw}) {
  const past = []; // metrics of the last minute, the oldest first
  let recent = true; // show latencies of the last minute only
  let answer = null;
  let error = null;
  const update = async (signal) => {
    try {
      answer = await get(["storage"], {}, signal);
      error = null;
      const at = new Date(answer.Time).getTime() / 1000;
      if (past.at(-1)?.metrics.CommitTimes.Count > answer.Metrics.CommitTimes.Count) past.length = 0; // the database was opened again
      past.push({at, metrics: answer.Metrics});
      while (past[0].at < at - 60) past.shift();
      for (const name of growing) rates.add(name, at, answer.Metrics[name]);
    } catch (err) {
      error = err;
    }
    show();
  };
  const moving = (title, name, format = rate) => h("div", {class: "card"}, h("dt", {}, title),
    h("dd", {}, format(rates.rate(name) ?? 0), sparkline(rates.list(name), {width: 150, label: title})));
  const perSecond = (n) => bytes(n) + "/s";
  const show = () => {
    const m = answer?.Metrics;
    const reads = (m?.CacheHits || 0) + (m?.CacheMisses || 0);
    const perCommit = rates.rate("Commits", 10) > 0 ? rates.rate("RecordsPut", 10) / rates.rate("Commits", 10) : null;
    draw(
      h("h1", {}, "Storage"),
      error && note("bad", error.message),
      !m && !error && loading,
      m && [
        m.Failed && note("bad", "Writes are refused until the database is opened again: " + m.Failed),
        m.DiskFull && note("bad", "The disk is full: writes are refused until there is space."),
        m.WriteErrors > 0 && note("warn", `Writing a table failed ${count(m.WriteErrors)} times, and was retried.`),
        h("section", {}, h("h2", {}, "Now"), h("dl", {class: "cards wide"},
          moving("Records put", "RecordsPut"), moving("Bytes put", "BytesPut", perSecond), moving("Commits", "Commits"),
          moving("Pages read from memory", "TailReads"), moving("Pages read from the store", "StoreReads"), moving("Compacted", "BytesCompacted", perSecond))),
        h("section", {}, h("h2", {}, "Writing"), cards(
          card("Records a commit", perCommit == null ? "–" : perCommit.toFixed(1), `${count(m.Commits)} commits in total`),
          card("Records put", count(m.RecordsPut), bytes(m.BytesPut)),
          card("Refused puts", count(m.PutsThrottled), "beyond a budget"),
          card("Refused reads", count(m.ReadsThrottled), "beyond a budget"))),
        h("section", {}, h("div", {class: "head"}, h("h2", {}, "How long it takes"),
          h("div", {class: "choice", role: "group", "aria-label": "Time range"}, [["last minute", true], ["since the database was opened", false]].map(([title, is]) =>
            h("button", {type: "button", "aria-pressed": String(is === recent), onclick: () => {
              recent = is;
              show();
            }}, title)))),
        table("How long it takes", ["What", ">Half within", ">95 % within", ">99 % within", ">99.9 % within", ">Mean", ">Measured"], [
          latency("Put", "until its records can be read", m, "PutTimes"),
          latency("Commit", "of requests that share it", m, "CommitTimes"),
          latency("Sync of the log", "time spent on the disk", m, "SyncTimes"),
        ]),
        m.CommitTimes.Count * 2 < m.Commits && h("p", {class: "quiet"}, "If commits do not wait for a disk, one in 64 puts and commits is measured.")),
        h("section", {}, h("h2", {}, "Disk"), cards(
          card("Files", bytes(m.DiskBytes)),
          card("Write-ahead log", bytes(m.WALBytes)),
          card("In memory", bytes(m.MemtableBytes), "not yet in a table"),
          card("Epochs", count(m.Epochs), "units in which space is reclaimed"),
          card("Tables", count(m.Tables), `${bytes(m.BytesFlushed)} written`),
          card("Compactions", count(m.Compactions), `${bytes(m.BytesCompacted)} rewritten`))),
        h("section", {}, h("h2", {}, "Reading"), cards(
          card("Cache", bytes(m.CacheBytes), reads ? `${((100 * m.CacheHits) / reads).toFixed(1)} % hits` : "no reads yet"),
          card("Recent records", bytes(m.TailBytes), "in memory for readers at the tip"),
          card("Open iterators", count(m.OpenIterators)),
          card("Open snapshots", count(m.OpenSnapshots)))),
        h("section", {}, h("h2", {}, "Capacity decisions"), table("Capacity decisions", ["Time", "Stream", "What", "Why"],
          [...(m.CapacityDecisions || [])].reverse().map((d) => h("tr", {key: d.Time + d.Action},
            h("td", {}, clock(d.Time)), h("td", {}, link(route("streams", d.Stream), d.Stream)), h("td", {}, d.Action), h("td", {}, d.Reason))),
          "No stream on demand has changed its shards since the database was opened.")),
        answer.Losses?.length > 0 && h("section", {}, h("h2", {}, "Accepted losses"), table("Losses", ["Time", "File", "Damage", "What"],
          answer.Losses.map((l) => h("tr", {key: l.Time + l.File}, h("td", {}, clock(l.Time)), h("td", {}, h("code", {}, l.File)), h("td", {}, l.Damage), h("td", {}, l.Text))))),
      ]);
  };
  const latency = (title, about, m, name) => {
    const counted = since(m[name], recent ? past[0].metrics[name] : null);
    const within = (q) => h("td", {class: "num"}, quantile(counted, q));
    return h("tr", {key: name}, h("th", {scope: "row"}, title, h("small", {}, about)),
      within(0.5), within(0.95), within(0.99), within(0.999),
      h("td", {class: "num"}, counted.count ? duration(counted.sum / counted.count) : "–"), h("td", {class: "num"}, count(counted.count)));
  };
  show();
  return poll(update, 1000).stop;
}
