// Queues, their counts, and their dead letters.

import {h, link, route} from "./dom.js";
import {get, poll} from "./api.js";
import {actionButton, badge, card, cards, change, crumbs, loading, note, table} from "./ui.js";
import {Opened} from "./data.js";
import {row} from "./records.js";
import {ago, count, duration, plural, seconds} from "./format.js";

export function queues({draw}) {
  let list = null;
  let error = null;
  const update = async (signal) => {
    try {
      list = await get(["queues"], {}, signal);
      error = null;
    } catch (err) {
      error = err;
    }
    show();
  };
  const show = () => draw(
    h("h1", {}, "Queues"),
    error && note("bad", error.message),
    !list && !error && loading,
    list?.More && note("warn", `Only the first ${count(list.Queues.length)} are shown.`),
    list && table("Queues", ["Queue", "Stream", ">Visible", ">In flight", ">Delayed", ">Dead", ">Oldest"], list.Queues.map((q) => h("tr", {key: q.ID},
      h("th", {scope: "row"}, link(route("queues", q.Name), q.Name)),
      h("td", {}, link(route("streams", q.Options.Stream), q.Options.Stream)),
      h("td", {class: "num"}, count(q.Visible)),
      h("td", {class: "num"}, count(q.InFlight)),
      h("td", {class: "num"}, count(q.Delayed)),
      h("td", {class: "num"}, q.Dead ? badge("bad", count(q.Dead)) : "0"),
      h("td", {class: "num"}, seconds(q.OldestAge) ? duration(seconds(q.OldestAge)) : "–"))),
    "There are no queues. A program makes one with queue.Open."));
  show();
  return poll(update, 1000).stop;
}

export function queue({names: [name], draw}) {
  let answer = null;
  let dead = null;
  let error = null;
  const opened = new Opened(() => show());
  const update = async (signal) => {
    try {
      answer = await get(["queues", name], {}, signal);
      dead = answer.Queue.Dead > 0 ? await get(["queues", name, "deadletters"], {limit: 50}, signal) : {Records: []};
      error = null;
    } catch (err) {
      error = err;
    }
    show();
  };
  const show = () => {
    const q = answer?.Queue;
    draw(
      crumbs(link("#/queues", "Queues"), name),
      h("h1", {}, name),
      error && note("bad", error.message),
      !q && !error && loading,
      q && [
        cards(
          card("Visible", count(q.Visible), "can be received"),
          card("In flight", count(q.InFlight), "not acknowledged"),
          card("Delayed", count(q.Delayed), "released with a delay"),
          card("Dead", count(q.Dead), q.DeadInFlight ? `${count(q.DeadInFlight)} in flight` : "set aside"),
          card("Oldest", seconds(q.OldestAge) ? duration(seconds(q.OldestAge)) : "–", "not settled"),
        ),
        h("section", {}, h("h2", {}, "Since the database was opened"), cards(
          card("Received", count(q.Received), `${count(q.EmptyReceives)} calls found nothing`),
          card("Acknowledged", count(q.Acknowledged)),
          card("Timed out", count(q.Lapsed), "visible again"),
          card("Died", count(q.Died), `${count(q.Restored)} restored`),
          card("Expired", count(q.ExpiredUnreceived + q.ExpiredReceived + q.ExpiredDead), "left the stream unsettled, since the queue was created"),
        )),
        h("section", {}, h("h2", {}, "Settings"), h("dl", {class: "pairs"},
          h("dt", {}, "Stream"), h("dd", {}, link(route("streams", q.Options.Stream), q.Options.Stream)),
          h("dt", {}, "Created"), h("dd", {}, ago(q.CreatedAt)),
          h("dt", {}, "Hidden for"), h("dd", {}, seconds(q.Options.VisibilityTimeout) < 0 ? "not at all" : duration(seconds(q.Options.VisibilityTimeout))),
          h("dt", {}, "Attempts"), h("dd", {}, q.Options.MaxReceives < 0 ? "without limit" : count(q.Options.MaxReceives)),
          h("dt", {}, "Order"), h("dd", {}, q.Options.OrderByKey ? "by partition key" : "none"))),
        h("section", {}, h("h2", {}, "Dead letters"),
          q.Dead > 0 && h("div", {class: "buttons"}, actionButton("Put all back …", {
            title: `Put back the dead letters of ${name}`, verb: "Put back",
            text: `All ${plural(q.Dead, "dead letter")} go back into the queue. They are visible at once, with ${attempts(q)} left.`,
            run: async () => plural((await change(["queues", name, "restore"], {All: true})).Restored, "record") + " can be received again.",
            after: poller.wake,
          })),
          dead && (dead.Records.length === 0 ? h("p", {class: "quiet"}, "There are none.")
            : h("ol", {class: "records"}, dead.Records.map((rec) => row(rec, opened, q.Options.Stream, rec.Reason || "no reason given",
              h("dl", {class: "pairs"}, h("dt", {}, "Received"), h("dd", {}, plural(rec.Receives, "time")), h("dt", {}, "Reason"), h("dd", {}, rec.Reason || "none was given")), letterActions(rec, q))))),
          dead?.More && note("warn", `Only the ${count(dead.Records.length)} oldest are shown.`)),
      ]);
  };
  const letterActions = (rec, q) => (rec.Receipt
    ? h("div", {class: "buttons"},
      actionButton("Put back …", {
        title: "Put the dead letter back", verb: "Put back",
        text: `The record goes back into the queue ${name}. It is visible at once, with ${attempts(q)} left.`,
        run: async () => {
          await change(["queues", name, "restore"], {Receipts: [rec.Receipt]});
          return "The record can be received again.";
        },
        after: poller.wake,
      }),
      actionButton("Discard …", {
        title: "Discard the dead letter", verb: "Discard", danger: true,
        text: `The record leaves the queue ${name} for good, and is never received from it again. The stream ${q.Options.Stream} keeps it until its retention ends.`,
        run: async () => {
          await change(["queues", name, "discard"], {Receipts: [rec.Receipt]});
          return "The record has left the queue.";
        },
        after: poller.wake,
      }, {class: "danger"}))
    : h("p", {class: "quiet"}, "A receiver of dead letters has it, and may put it back or discard it."));

  show();
  const poller = poll(update, 1000);
  return poller.stop;
}

const attempts = (q) => (q.Options.MaxReceives < 0 ? "any number of attempts" : plural(q.Options.MaxReceives, "attempt"));

