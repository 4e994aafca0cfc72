// Numbers, sizes, times and data as people read them.

const counts = new Intl.NumberFormat("en");

export const count = (n) => counts.format(Math.round(n));
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

// rate formats a number per second, with three digits.
export function rate(n) {
  if (n == null) return "–";
  if (n === 0) return "0/s";
  if (n < 9.95) return n.toFixed(1) + "/s";
  if (n < 9995) return count(n) + "/s";
  return n < 999500 ? (n / 1e3).toFixed(n < 99950 ? 1 : 0) + "k/s" : (n / 1e6).toFixed(1) + "M/s";
}

export function bytes(n) {
  if (n == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1023.5 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return (i === 0 || n >= 99.5 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

// seconds parses a duration of Go, such as 1h2m3.5s.
export function seconds(text) {
  const per = {h: 3600, m: 60, s: 1, ms: 1e-3, "µs": 1e-6, us: 1e-6, ns: 1e-9};
  let sum = 0;
  for (const [, n, unit] of (text || "").matchAll(/([\d.]+)(h|ms|m|s|µs|us|ns)/g)) sum += Number(n) * per[unit];
  return (text || "").startsWith("-") ? -sum : sum;
}

// duration formats seconds in one or two units.
export function duration(s) {
  if (s === 0) return "0 s";
  if (s < 1e-3) return Math.max(1, Math.round(s * 1e6)) + " µs";
  if (s < 1) return Math.round(s * 1e3) + " ms";
  if (s < 60) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = units.findIndex(([n]) => s >= n);
  const [n, unit] = units[i];
  const rest = units[i + 1] ? Math.floor((s % n) / units[i + 1][0]) : 0;
  return `${Math.floor(s / n)} ${unit}` + (rest ? ` ${rest} ${units[i + 1][1]}` : "");
}

export const retention = (text) => (seconds(text) < 0 ? "forever" : duration(seconds(text)));

// clock formats a time of day with milliseconds, after the date if that is not today.
export function clock(text) {
  const t = new Date(text);
  const two = (n, l = 2) => String(n).padStart(l, "0");
  const time = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  const day = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
  return (t.toDateString() === new Date().toDateString() ? "" : day + " ") + time + "." + two(t.getMilliseconds(), 3);
}

export const ago = (text, now = Date.now()) => duration(Math.max(0, (now - new Date(text)) / 1000)) + " ago";

// shardNumber returns the number in a shard's id.
export const shardNumber = (id) => String(Number(id.split("-").pop()));

// hash formats a hash key as the first of its 32 hexadecimal digits.
export const hash = (key) => BigInt(key).toString(16).padStart(32, "0").slice(0, 8) + "…";

export const hashSpace = 1n << 128n;

// fraction returns the position of a hash key among all, 0 to 1.
export const fraction = (key) => Number((BigInt(key) * 1000000n) / hashSpace) / 1e6;

export function fromBase64(text) {
  const raw = atob(text || "");
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

const strict = new TextDecoder("utf-8", {fatal: true});
const lenient = new TextDecoder("utf-8");

// textOf returns the data as text, or null if it is not text. Truncated data may end within
// a character.
export function textOf(data, cut) {
  try {
    return strict.decode(data);
  } catch {
    if (!cut) return null;
  }
  for (let back = 1; back <= 3; back++) {
    try {
      return strict.decode(data.subarray(0, data.length - back));
    } catch {
      // one byte less
    }
  }
  return null;
}

export const anyText = (data) => lenient.decode(data);

// jsonOf returns the data as indented JSON, or null if it is not JSON.
export function jsonOf(data) {
  const text = textOf(data, false)?.trim();
  if (!text || !/^[[{"]/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

// hexOf returns a dump: 16 bytes on a line, in hexadecimal digits and as text.
export function hexOf(data) {
  const lines = [];
  for (let i = 0; i < data.length; i += 16) {
    const row = [...data.subarray(i, i + 16)];
    const hex = row.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const text = row.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : "·")).join("");
    lines.push(i.toString(16).padStart(6, "0") + "  " + hex + "  " + text);
  }
  return lines.join("\n") || "(empty)";
}

// preview returns the data in one line.
export function preview(data, cut, length = 160) {
  const text = textOf(data, cut);
  if (text == null) return [...data.subarray(0, 40)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  const line = text.slice(0, length * 2).replace(/\s+/g, " ");
  return line.length > length ? line.slice(0, length) + "…" : line;
}
