// The changes of a stream, each with a text that explains its effect.

import {h} from "./dom.js";
import {actionButton, change} from "./ui.js";
import {bytes, count, duration, fraction, plural, retention, seconds, shardNumber} from "./format.js";

const isOnDemand = (s) => s.Capacity.Mode === "OnDemand";

// adjacent is the open shard whose range begins where this one's ends.
const adjacent = (s, sh) => s.Shards.find((o) => !o.Closed && BigInt(o.HashKeyRange.Start) === BigInt(sh.HashKeyRange.End) + 1n);

export function shardActions(s, sh, after) {
  if (sh.Closed || isOnDemand(s)) return null;
  const next = adjacent(s, sh);
  const number = shardNumber(sh.ID);
  return [
    actionButton("Split …", {
      title: `Split shard ${number} of ${s.Name}`,
      verb: "Split",
      fields: [{name: "at", label: "Where", value: "50", type: "number", min: 1, step: "any", hint: "per cent of the range of hash keys; the lower shard gets that part"}],
      text: (v) => `Shard ${number} is closed: it keeps its ${plural(sh.Records, "record")} and takes no more. Two new shards take its hash keys, ` +
        `the lower one ${v.at || "?"} % of them. Producers are not interrupted. A merge undoes the split, with another new shard.`,
      run: async (v) => {
        const r = await change(["streams", s.Name, "split"], {Shard: sh.ID, At: cut(sh, Number(v.at))});
        return `Shards ${shardNumber(r.Lower)} and ${shardNumber(r.Upper)} have taken over.`;
      },
      after,
    }),
    next && actionButton(`Merge with ${shardNumber(next.ID)} …`, {
      title: `Merge shards ${number} and ${shardNumber(next.ID)} of ${s.Name}`,
      verb: "Merge",
      text: `Both shards are closed: they keep their ${plural(sh.Records + next.Records, "record")} and take no more. One new shard takes their hash keys ` +
        `(${(100 * (fraction(next.HashKeyRange.End) - fraction(sh.HashKeyRange.Start))).toFixed(1)} % of all). Producers are not interrupted.`,
      run: async () => `Shard ${shardNumber((await change(["streams", s.Name, "merge"], {Shard: sh.ID, Adjacent: next.ID})).Shard)} has taken over.`,
      after,
    }),
  ];
}

// cut returns the hash key at a percentage of a shard's range.
function cut(sh, percent) {
  if (!(percent > 0 && percent < 100)) throw new Error("Where must be between 0 and 100 per cent.");
  const start = BigInt(sh.HashKeyRange.Start);
  const size = BigInt(sh.HashKeyRange.End) - start + 1n;
  return String(start + (size * BigInt(Math.round(percent * 1e6))) / 100000000n);
}

// createStream is the action that creates a stream; after is called when it exists.
export const createStream = (after) =>
  actionButton("Create a stream …", {
    title: "Create a stream",
    verb: "Create",
    fields: [
      {name: "name", label: "Name", hint: "1 to 128 characters of a-z, A-Z, 0-9, _ . and -"},
      {name: "mode", label: "Capacity", value: "Unlimited", options: [["Unlimited", "unlimited"], ["Provisioned", "provisioned: a fixed budget for each shard"], ["OnDemand", "on demand: splits and merges automatically"]]},
      {name: "shards", label: "Open shards", value: "1", type: "number", min: 1, step: 1, when: (v) => v.mode !== "OnDemand"},
      {name: "period", label: "Records are kept for", value: "24", hint: "hours, up to 8760, or forever"},
    ],
    text: (v) => `A stream${v.name ? " " + v.name : ""} is created, with ` +
      (v.mode === "OnDemand" ? "4 shards at first" : plural(Number(v.shards) || 0, "shard")) + `, and keeps records ${v.period === "forever" ? "forever" : `for ${duration(Number(v.period) * 3600)}`}. ` +
      "Programs that open a stream of this name get this one.",
    run: async (v) => {
      const options = {Retention: keep(v.period), Capacity: {Mode: v.mode}};
      if (v.mode !== "OnDemand") options.Shards = Number(v.shards);
      await change(["streams"], {Name: v.name, Options: options});
      return `Stream ${v.name} was created.`;
    },
    after,
  });

// keep converts a number of hours, or forever, to the API's retention.
function keep(period) {
  if (period === "forever") return "-1ns";
  if (!(Number(period) > 0)) throw new Error("Give a number of hours, or forever.");
  return Number(period) + "h";
}

export function streamActions(s, answer, after) {
  return h("div", {class: "buttons"},
    actionButton("Change the number of shards …", {
      title: `Change the number of shards of ${s.Name}`,
      verb: "Change",
      fields: [{name: "n", label: "Open shards", value: String(answer.OpenShards), type: "number", min: 1, step: 1}],
      text: (v) => `From ${count(answer.OpenShards)} to ${v.n || "?"}: shards are split in the middle and neighbours are merged to that number, in one commit. ` +
        "All open shards that this changes are closed, and keep their records. Producers are not interrupted.",
      run: async (v) => {
        await change(["streams", s.Name, "scale"], {Shards: Number(v.n)});
        return `There are ${v.n} open shards now.`;
      },
      after,
    }, {disabled: isOnDemand(s), title: isOnDemand(s) ? "A stream on demand does this automatically." : null}),
    actionButton("Change the retention …", {
      title: `Change the retention of ${s.Name}`,
      verb: "Change",
      fields: [
        {name: "period", label: "Records are kept for", value: seconds(s.Retention) < 0 ? "forever" : String(seconds(s.Retention) / 3600), hint: "hours, from 24 to 8760, or forever"},
      ],
      text: (v) => retentionText(s, v.period),
      run: async (v) => {
        await change(["streams", s.Name, "retention"], {Retention: keep(v.period)});
        return "The retention is changed.";
      },
      after,
    }),
    actionButton("Trim …", {
      title: `Trim ${s.Name}`,
      verb: "Remove these records",
      danger: true,
      fields: [
        {name: "what", label: "Remove", value: "time", options: [["time", "all records before a time"], ["all", "all records"]]},
        {name: "time", label: "Time", value: local(new Date(Date.now() - 3600e3)), type: "datetime-local", step: 1, hint: "of this browser's zone", when: (v) => v.what === "time"},
      ],
      text: (v) => (v.what === "all"
        ? `All ${plural(s.Records, "record")} of ${s.Name} (${bytes(s.Bytes)}) are removed, for good. Applications that have not read them never will.`
        : `Every record of ${s.Name} that arrived before ${v.time.replace("T", " ")} is removed, for good. Applications that have not read them never will.`),
      run: async (v) => {
        const before = v.what === "all" ? "LATEST" : "AT_TIMESTAMP " + new Date(v.time).toISOString().replace(/\.?0*Z$/, "Z");
        await change(["streams", s.Name, "trim"], {Before: before});
        return "The records are removed.";
      },
      after,
    }, {class: "danger"}),
    actionButton("Delete …", {
      title: `Delete ${s.Name}`,
      verb: "Delete the stream",
      danger: true,
      fields: [{name: "name", label: `To delete ${s.Name}, type its name`}],
      text: `The stream is deleted with all its ${plural(s.Records, "record")} (${bytes(s.Bytes)}) in ${plural(answer.Shards, "shard")}, for good. ` +
        "Applications that have not read them never will. They wait for a new stream of that name, and process it from its beginning. " +
        "A stream that has queues cannot be deleted.",
      run: async (v) => {
        await change(["streams", s.Name, "delete"], {Name: v.name});
        return `Stream ${s.Name} was deleted.`;
      },
      after: () => {
        location.hash = "#/streams";
      },
    }, {class: "danger"}));
}

function retentionText(s, period) {
  const is = seconds(s.Retention);
  const to = period === "forever" ? -1 : Number(period) * 3600;
  if (!(to === -1 || to > 0)) return "Give a number of hours, or forever.";
  const longer = to < 0 || (is > 0 && to >= is);
  return `From ${retention(s.Retention)} to ${to < 0 ? "forever" : duration(to)}. ` +
    (longer ? "Records that have already expired do not come back." : "Older records are removed at once, for good; a longer retention does not bring them back.");
}

// local formats a time for an input of type datetime-local.
export const local = (t) => new Date(t.getTime() - t.getTimezoneOffset() * 60e3).toISOString().slice(0, 19);

