// The page: its sections, and which one is shown. A view is a function that takes the names
// and parameters of the route, shows itself with draw, and returns a function that ends it.

import {h, patch, route} from "./dom.js";
import {get} from "./api.js";
import {note, state} from "./ui.js";
import {streams} from "./streams.js";
import {stream} from "./stream.js";
import {records} from "./records.js";
import {tail} from "./tail.js";
import {app, apps} from "./apps.js";
import {queue, queues} from "./queues.js";
import {storage} from "./storage.js";

const sections = [
  ["streams", "Streams"],
  ["apps", "Applications"],
  ["queues", "Queues"],
  ["storage", "Storage"],
];

const views = [
  [/^$/, streams, "streams"],
  [/^streams$/, streams, "streams"],
  [/^streams\/([^/]+)$/, stream, "streams"],
  [/^streams\/([^/]+)\/records$/, records, "streams"],
  [/^streams\/([^/]+)\/tail$/, tail, "streams"],
  [/^apps$/, apps, "apps"],
  [/^apps\/([^/]+)$/, app, "apps"],
  [/^queues$/, queues, "queues"],
  [/^queues\/([^/]+)$/, queue, "queues"],
  [/^storage$/, storage, "storage"],
];

const main = document.getElementById("main");
let end = null;
let shown = null;
let changed = new Set(); // called when streams or shards have changed

// show ends the current view, and begins the one at the address.
function show() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  if (path === "main") return; // the link past the sections
  end?.();
  changed = new Set();
  const found = views.map(([rule, view, section]) => ({match: rule.exec(path), view, section})).find((v) => v.match);
  drawSections(found?.section);
  const draw = (...children) => {
    patch(main, children);
    document.title = (main.querySelector("h1")?.textContent || "streams") + " · braid";
  };
  patch(main, []);
  if (!found) {
    draw(h("h1", {}, "No such page"), note("warn", "There is nothing at this address."));
    end = null;
    return;
  }
  const names = found.match.slice(1).map(decodeURIComponent);
  end = found.view({names, params: new URLSearchParams(query), draw, onChange: (fn) => changed.add(fn)});
  if (shown !== null && shown !== path) {
    main.focus({preventScroll: true});
    scrollTo(0, 0);
  }
  shown = path;
}

function drawSections(current) {
  patch(document.getElementById("nav"), sections.map(([path, title]) =>
    h("a", {href: route(path), "aria-current": path === current ? "page" : null}, title)));
}

// listen follows changes of streams and shards, and shows whether the program answers.
function listen() {
  const live = document.getElementById("live");
  const events = new EventSource("api/events");
  const say = (kind, text) => {
    live.className = "live " + kind;
    live.textContent = text;
  };
  events.addEventListener("changed", () => {
    say("on", state.writable ? "live · changes allowed" : "live · read only");
    for (const fn of changed) fn();
  });
  events.addEventListener("end", () => {
    events.close();
    say("off", "the database is closed");
    setTimeout(listen, 2000);
  });
  events.onerror = () => {
    say("off", "no connection");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
  addEventListener("pagehide", () => events.close(), {once: true});
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

try {
  const info = await get(["info"]);
  state.writable = info.Writable;
  state.limits = info.Limits;
} catch (err) {
  patch(main, note("bad", err.message));
}
listen();
addEventListener("hashchange", show);
show();
