// Histograms, as Go marshals braid.Histogram.

import {duration, seconds} from "./format.js";

// since returns the counts of a histogram since an earlier reading, or all of them without one.
export const since = (h, earlier) => ({
  count: h.Count - (earlier?.Count || 0),
  sum: seconds(h.Sum) - seconds(earlier?.Sum),
  buckets: (h.Buckets || []).map((b, i) => ({upTo: seconds(b.UpTo), count: b.Count - (earlier?.Buckets?.[i]?.Count || 0)})),
});

// quantile returns, in words, the bound that a share of the durations does not exceed.
export function quantile({count, buckets}, q) {
  if (!count) return "–";
  let rank = Math.max(1, Math.ceil(q * count));
  for (const b of buckets) {
    rank -= b.count;
    if (rank <= 0) return duration(b.upTo);
  }
  return `over ${duration(buckets.at(-1)?.upTo ?? 0)}`;
}
